"""Timing: each contender in turn, several rounds, medians; so a slow moment hits all alike."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds on the clock of the wall, and of CPU in all threads of this process."""

    wall: float
    cpu: float


def rounds(contenders: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each contender, taken in turn."""
    return {name: taken.wall for name, taken in rounds_with_cpu(contenders, runs).items()}


def rounds_with_cpu(
    contenders: Mapping[str, Callable[[], object]],
    runs: int,
    prepare: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, Taken]:
    """As rounds, with the seconds of CPU: steadier where others use the machine too.

    What `prepare` has for a contender is done before it, and not timed.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, run in contenders.items():
            if prepare and name in prepare:
                prepare[name]()
            began, began_cpu = time.perf_counter(), time.process_time()
            run()
            spent = time.perf_counter() - began, time.process_time() - began_cpu
            taken[name].append(spent)
    return {
        name: Taken(median(wall for wall, _ in each), median(cpu for _, cpu in each))
        for name, each in taken.items()
    }


def report(title: str, seconds: Mapping[str, float], ours: str) -> None:
    """Print seconds and the ratio of ours to each."""
    print(f"\n{title}")
    for name, each in seconds.items():
        ratio = "" if name == ours else f"   ours / this {seconds[ours] / each:6.3f}"
        print(f"  {name:<44} {each:8.2f} s{ratio}")


def report_against(title: str, taken: Mapping[str, Taken], bases: Mapping[str, str]) -> None:
    """Print the seconds of each, and what each takes as a multiple of the bases.

    `bases`: the names of contenders, with a short word for each.
    """
    print(f"\n{title}")
    head = "".join(f"{f'times {word}':>20}" for word in bases.values())
    print(f"  {'':<44}{'wall':>9}{'CPU':>9}{head}   (wall, CPU)")
    for name, each in taken.items():
        ratios = "".join(
            f"{each.wall / taken[base].wall:>13.2f}{each.cpu / taken[base].cpu:>7.2f}"
            for base in bases
        )
        print(f"  {name:<44}{each.wall:>7.2f} s{each.cpu:>7.2f} s{ratios}")


def peak_memory_gib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
