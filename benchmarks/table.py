"""Medians and ratios, for all benchmarks."""

from __future__ import annotations

import gc
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def measure(what: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Run everything in turn, A B C A B C …, so that a machine that slows down does so for all; return seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(runs):
        for name, function in what.items():
            gc.collect()
            started = perf_counter()
            function()
            seconds[name].append(perf_counter() - started)
    return seconds


def show(title: str, seconds: Mapping[str, list[float]], ours: str, goals: Mapping[str, str]) -> None:
    """Print medians, and how our median compares with each peer's."""
    mine = median(seconds[ours])
    print(f"\n{title}")
    print(f"{'':44} {'median':>10} {'min':>10} {'max':>10} {'runs':>5} {'ours / it':>10}  goal")
    for name, values in seconds.items():
        ratio = mine / median(values)
        print(
            f"{name:44} {median(values):>8.4f} s {min(values):>8.4f} s {max(values):>8.4f} s {len(values):>5}"
            f" {ratio:>10.3f}  {goals.get(name, '')}"
        )
