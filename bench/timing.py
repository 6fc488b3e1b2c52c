"""Timing: each contender in turn, several rounds, medians; so a slow moment hits all alike."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from statistics import median


def rounds(contenders: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each contender, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: median(each) for name, each in seconds.items()}


def report(title: str, seconds: Mapping[str, float], ours: str) -> None:
    """Print seconds and the ratio of ours to each."""
    print(f"\n{title}")
    for name, each in seconds.items():
        ratio = "" if name == ours else f"   ours / this {seconds[ours] / each:6.3f}"
        print(f"  {name:<44} {each:8.2f} s{ratio}")


def peak_memory_gib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
