"""Functions that are timed in turn, A B C A B C …, so that a machine that slows down does so for all."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from benchmarks.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Measured(float):
    """Seconds that a function measured itself and returns, where not all that it does counts."""

    __slots__ = ()


@dataclass(frozen=True)
class Race:
    """One thing that is timed, beside what does the same otherwise."""

    title: str
    ours: Mapping[str, Callable[[], object]]
    """What runs our code; the first is compared with each other row."""
    peers: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    """What other people use, a floor, or a limit."""
    goals: Mapping[str, str] = field(default_factory=dict)
    """See `Table`."""
    runs: int = 5
    """How often, unless it is said otherwise."""
    loops: int = 1
    """Calls that are timed together, of what a clock cannot tell one by one."""
    warm: bool = False
    """Whether everything is to be done once before, without being timed."""
    note: str = ""
    """See `Table`."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    small: bool = False
    """Whether everything is done once, in a few seconds, to see that it works."""

    def pick(self, full: T, small: T) -> T:
        """Return one of two."""
        return small if self.small else full


def seconds_of(function: Callable[[], object], loops: int = 1) -> float:
    """Call a function, and return the seconds of one call."""
    gc.collect()
    result: object = None
    started = perf_counter()
    for _ in range(loops):
        result = function()
    seconds = (perf_counter() - started) / loops
    return float(result) if isinstance(result, Measured) else seconds


def measure(race: Race, runs: int) -> Table:
    """Run everything so often."""
    everything = {**race.ours, **race.peers}
    if race.warm and runs > 1:
        for function in everything.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in everything}
    for _ in range(runs):
        for name, function in everything.items():
            seconds[name].append(seconds_of(function, race.loops if runs > 1 else 1))
    return Table(race.title, seconds, next(iter(race.ours)), race.goals, race.note)
