"""What Python shows of our objects when nobody asks for a table."""

from __future__ import annotations

import pytest

from dask_pkgsync import (
    ClusterStatus,
    Comparison,
    Distribution,
    Environment,
    Interpreter,
    NodeFailure,
    PackageSync,
    Policy,
    SyncReport,
)
from dask_pkgsync.model.comparison import Difference
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.reports.status import NodeStatus
from dask_pkgsync.model.reports.sync import NodeReport

HERE = Environment.of(
    Interpreter("cpython", "3.12.1", "linux-x86_64", "cp312-cp312-manylinux_2_36_x86_64"),
    [Distribution(f"package-{number}", "1.0") for number in range(106)],
)
DIFFERENCES = (Difference("dask", Level.CRITICAL, "1", "2"), Difference("six", Level.EXACT, "1", "2"))


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (HERE, f"<Environment {HERE.fingerprint[:12]}…: CPython 3.12.1, linux-x86_64, 106 distributions>"),
        (Comparison(DIFFERENCES, "client", "worker"), "<Comparison of client and worker: 2 differences, 1 critical>"),
        (Comparison(DIFFERENCES[:1], "a", "b"), "<Comparison of a and b: 1 difference, 1 critical>"),
        (
            SyncReport("ab" * 32, (NodeReport("a", "scheduler"), NodeReport("b", "nanny", "live"))),
            "<SyncReport abababababab…: 2 nodes, 1 live, 1 matched>",
        ),
        (
            ClusterStatus("ab" * 32, (NodeStatus("a", "scheduler", "matches"), NodeStatus("b", "nanny", "failed"))),
            "<ClusterStatus abababababab…: 1 of 2 nodes match, 0 clients>",
        ),
        (ClusterStatus("", ()), "<ClusterStatus without a target: 0 of 0 nodes match, 0 clients>"),
        (Policy(), "<Policy: by default>"),
        (
            Policy.of(ignore=["six"], only=["numpy"], extra=["tabulate"], levels={"numpy": "compatible"}, strict=True),
            "<Policy: ignore six; only numpy; extra tabulate; numpy compatible; strict>",
        ),
        (NodeFailure("tcp://a:1", "install", "it broke\nbadly"), "<NodeFailure tcp://a:1: install: it broke>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_repr_is_one_short_line(thing: object, expected: str) -> None:
    """It says what it is and the little that tells it from others."""
    assert repr(thing) == expected


def test_the_repr_of_the_plugin_names_its_target() -> None:
    """Target and environment are named, and no more."""
    plugin = PackageSync(HERE)
    assert repr(plugin) == f"<PackageSync {plugin.target.id[:12]}…: {HERE!r}>"


def test_the_repr_of_a_large_policy_stays_short() -> None:
    """Of many names it shows the first."""
    assert len(repr(Policy.of(ignore=[f"package-{number}" for number in range(500)]))) < 250
