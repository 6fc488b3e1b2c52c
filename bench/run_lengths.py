"""How many periods pass until an alarm: the run lengths of docs/decisions/0008, by simulation.

Points are normal with known centre and sigma, shifted by so many sigmas from the first one on.
The recursions are written here once more, over many runs at a time, and not taken from `sqm`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Alarms = Iterator[NDArray[np.bool_]]
Chart = Callable[[Iterator[Numbers], int], Alarms]

MOST = 3.0  # sigmas that one point counts for, at most
SHIFTS = (0.0, 0.25, 0.5, 1.0, 1.5)


def ewma(weight: float, width: float, *, one_side: bool = False) -> Chart:
    def run(points: Iterator[Numbers], runs: int) -> Alarms:
        level, left = np.zeros(runs), 1.0
        for z in points:
            level = weight * np.clip(z, -MOST, MOST) + (1 - weight) * level
            left *= (1 - weight) ** 2
            limit = width * np.sqrt(weight / (2 - weight) * (1 - left))
            yield (level if one_side else np.abs(level)) > limit

    return run


def cusum(k: float, h: float, *, one_side: bool = False) -> Chart:
    def run(points: Iterator[Numbers], runs: int) -> Alarms:
        above, below = np.zeros(runs), np.zeros(runs)
        for z in points:
            counted = np.clip(z, -MOST, MOST)
            above = np.maximum(0.0, above + counted - k)
            below = np.maximum(0.0, below - counted - k)
            yield (above > h) | ((below > h) & (not one_side))

    return run


def beyond_or_eight_in_a_row(points: Iterator[Numbers], runs: int) -> Alarms:
    """Western Electric 1 and 4, the rules that a KPI has unless it says otherwise."""
    above, below = np.zeros(runs), np.zeros(runs)
    for z in points:
        above, below = (above + 1) * (z > 0), (below + 1) * (z < 0)
        yield (np.abs(z) > 3) | (above >= 8) | (below >= 8)


def either(*charts: Chart) -> Chart:
    def run(points: Iterator[Numbers], runs: int) -> Alarms:
        seen: list[Numbers] = []

        def shared() -> Iterator[Numbers]:
            while True:
                yield seen[-1]

        courses = [chart(shared(), runs) for chart in charts]
        for z in points:
            seen[:] = [z]
            yield np.any([next(course) for course in courses], axis=0)

    return run


def run_length(chart: Chart, shift: float, runs: int, random: np.random.Generator) -> float:
    """Mean number of points up to and with the first alarm."""
    lengths = np.zeros(runs)
    open_runs = np.ones(runs, dtype=np.bool_)

    def points() -> Iterator[Numbers]:
        while True:
            yield random.standard_normal(runs) + shift

    for alarm in chart(points(), runs):
        lengths += open_runs
        open_runs &= ~alarm
        if not open_runs.any():
            return float(lengths.mean())
    raise AssertionError("points never end")


CHARTS: dict[str, Chart] = {
    "we1, we4": beyond_or_eight_in_a_row,
    "ewma 0.2, 2.7": ewma(0.2, 2.7),
    "ewma 0.2, 2.7, one side": ewma(0.2, 2.7, one_side=True),
    "ewma 0.2, 2.962": ewma(0.2, 2.962),
    "cusum 0.5, 5": cusum(0.5, 5.0),
    "cusum 0.5, 5, one side": cusum(0.5, 5.0, one_side=True),
    "we1, we4, ewma": either(beyond_or_eight_in_a_row, ewma(0.2, 2.7)),
    "we1, we4, cusum": either(beyond_or_eight_in_a_row, cusum(0.5, 5.0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    runs = parser.parse_args().runs
    print(f"points until an alarm, mean of {runs} runs" + "".join(f"{s:>9g}" for s in SHIFTS))
    for name, chart in CHARTS.items():
        random = np.random.default_rng(8)
        found = [run_length(chart, shift, runs, random) for shift in SHIFTS]
        print(f"{name:<44}" + "".join(f"{each:>9.1f}" for each in found))


if __name__ == "__main__":
    main()
