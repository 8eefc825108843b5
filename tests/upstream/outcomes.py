"""What pytest found without the plugin and with it, and which failures are therefore ours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILE = ""
"""In place of a test's name: what befell the whole file, such as pytest that died or took too long."""

KNOWN_EXCEPTIONS: dict[str, str] = {}
"""Node ids of tests that cannot pass with any plugin, and why."""


def node_id(file: str, name: str) -> str:
    """Return what pytest calls a test."""
    return f"{file}::{name}" if name != FILE else file


class Outcome(Enum):
    """How a test ended; the later one counts where pytest reports several for one test."""

    SKIPPED = "skipped"
    PASSED = "passed"
    FAILED = "failed"


Outcomes = dict[str, Outcome]
"""By the part of the node id behind the file: ``test_a``, ``TestB::test_c[1]``."""

RANK = list(Outcome)


def read_junit(text: str, module: str) -> Outcomes:
    """Read what pytest wrote for the tests of one module.

    Parameters
    ----------
    text : str
        JUnit XML.
    module : str
        The module as pytest names it, ``distributed.tests.test_core``.
    """
    found: Outcomes = {}
    for case in ET.fromstring(text).iter("testcase"):
        inner = case.get("classname", "").removeprefix(module).strip(".")
        name = "::".join([*filter(None, inner.split(".")), case.get("name", "")])
        kinds = {child.tag for child in case}
        outcome = Outcome.FAILED if kinds & {"failure", "error"} else Outcome.PASSED
        if "skipped" in kinds:
            outcome = Outcome.SKIPPED
        found[name] = max(outcome, found.get(name, Outcome.SKIPPED), key=RANK.index)
    return found


class Verdict(Enum):
    """What a failure with the plugin is."""

    OURS = "ours"
    """Failed more than once with the plugin, and never without; or nobody looked again."""
    KNOWN = "known exception"
    ONCE = "once"
    """Failed with the plugin and did not again; never without. Nobody can say yet."""
    FLAKY = "flaky"
    """Failed without the plugin as well, in a later run."""


@dataclass(frozen=True)
class Compared:
    """The first run of a file without the plugin beside the first one with it."""

    counts: Mapping[str, int]
    """Tests for each of the `COLUMNS`."""
    both: Sequence[str]
    """Tests that failed in both."""
    suspects: Sequence[str]
    """Tests that passed without the plugin and did not with it, or failed with it alone."""


def compare(unplugged: Outcomes, plugged: Outcomes) -> Compared:
    """Compare the first two runs of a file: whatever passed without the plugin has to pass with it."""
    counts: Counter[str] = Counter()
    both, suspects = [], []
    for name in sorted({*unplugged, *plugged}):
        before, after = unplugged.get(name), plugged.get(name)
        if before is after is Outcome.FAILED:
            counts["both"] += 1
            both.append(name)
        elif after is Outcome.FAILED or (before is Outcome.PASSED and after is not Outcome.PASSED):
            counts["plugged"] += 1
            suspects.append(name)
        elif before is Outcome.FAILED:
            counts["unplugged"] += 1
        elif name != FILE:
            counts["passed" if after is Outcome.PASSED else "skipped"] += 1
    return Compared(counts, both, suspects)


@dataclass
class Suspect:
    """A test that failed with the plugin only, and what further runs of it gave."""

    node_id: str
    unplugged: list[Outcome | None] = field(default_factory=list)
    """One for each further run; None where pytest reported nothing for it."""
    plugged: list[Outcome | None] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """Sort it."""
        if self.node_id in KNOWN_EXCEPTIONS:
            return Verdict.KNOWN
        if any(outcome is not Outcome.PASSED for outcome in self.unplugged):
            return Verdict.FLAKY
        if not self.plugged or any(outcome is not Outcome.PASSED for outcome in self.plugged):
            return Verdict.OURS
        return Verdict.ONCE

    def __str__(self) -> str:
        bad = [sum(one is not Outcome.PASSED for one in runs) for runs in (self.plugged, self.unplugged)]
        seen = f"failed in {1 + bad[0]} of {1 + len(self.plugged)} runs with the plugin"
        seen += f", in {bad[1]} of {1 + len(self.unplugged)} without"
        reason = KNOWN_EXCEPTIONS.get(self.node_id)
        return f"{self.verdict.value}: {self.node_id}: {reason or seen}"


COLUMNS = {
    "passed": "passed",
    "skipped": "skipped",
    "both": "failed in both",
    "plugged": "only plugged",
    "unplugged": "only unplugged",
}


def header(width: int) -> str:
    """Return the first line of the table."""
    return f"{'file':{width}}" + "".join(f"{title:>16}" for title in COLUMNS.values()) + f"{'seconds':>16}"


def row(width: int, name: str, counts: Mapping[str, int], seconds: Iterable[float]) -> str:
    """Return one line of the table; the seconds are those without and with the plugin."""
    numbers = "".join(f"{counts.get(column, 0):>16}" for column in COLUMNS)
    return f"{name:{width}}{numbers}{' + '.join(f'{one:.0f}' for one in seconds):>16}"
