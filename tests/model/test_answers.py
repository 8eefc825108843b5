"""Errors of a sync cross releases as plain data."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from made_up_environments import junk

from dask_pkgsync import (
    Comparison,
    ConflictError,
    EnvironmentMismatchError,
    MessageError,
    NodeFailure,
    PkgsyncError,
    PolicyError,
    SyncError,
    WheelError,
)
from dask_pkgsync.model.comparison import Difference
from dask_pkgsync.model.errors import WarnsOnlyError
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.reports.answer import error_from_wire, error_to_wire

DIFFERENCES = Comparison((Difference("six", Level.EXACT, "1.0", "2.0", "same platform"),), "cluster", "yours")
FAILURE = NodeFailure("tcp://10.0.0.3:1", "install", "it broke", "Mend it.", "last\nwords", ("six==1.0",))


@pytest.mark.parametrize(
    "error",
    [
        EnvironmentMismatchError(DIFFERENCES),
        ConflictError("ann@laptop", DIFFERENCES),
        SyncError({FAILURE.node: FAILURE}, adopted=True),
        SyncError({FAILURE.node: FAILURE}),
        WarnsOnlyError(),
        PolicyError("ignore: six stands twice"),
        PkgsyncError("ann has gone, and nothing was done for it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_says_the_same_at_the_other_end(error: PkgsyncError) -> None:
    """Class, fields and sentence are those that the scheduler raised."""
    again = error_from_wire(msgpack.unpackb(msgpack.packb(error_to_wire(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_error_without_a_form_of_its_own_keeps_its_sentence() -> None:
    """What another release may not know arrives as the root of our errors; so does a kind that is not known here."""
    again = error_from_wire(error_to_wire(WheelError("mine 1.0", "it does not build")))
    assert type(again) is PkgsyncError
    assert str(again) == "mine 1.0: it does not build"
    later = error_from_wire({"kind": "of-a-later-release", "text": "relaunch is not allowed here"})
    assert str(later) == "relaunch is not allowed here"
    assert "of-a-later-release" in str(error_from_wire({"kind": "of-a-later-release"}))


@given(junk)
def test_junk_is_no_error_of_ours(data: object) -> None:
    """Whatever a scheduler answers, reading it raises MessageError and nothing else."""
    with pytest.raises(MessageError):
        error_from_wire(data)


def test_whatever_an_error_says_can_be_sent_and_read() -> None:
    """Halves of characters, control characters and endless texts of a node cost no client its answer."""
    hostile = "half \ud800, bell \a, two\nlines, " + "long " * 50_000
    difference = Difference(hostile, Level.EXACT, hostile, hostile, hostile)
    failure = NodeFailure(hostile, hostile, hostile, hostile, hostile, (hostile,))
    for error in (
        EnvironmentMismatchError(Comparison((difference,), "cluster", "yours")),
        ConflictError(hostile, Comparison((difference,), "cluster", "yours")),
        SyncError({failure.node: failure}),
        PolicyError(hostile),
        PkgsyncError(hostile),
    ):
        again = error_from_wire(msgpack.unpackb(msgpack.packb(error_to_wire(error))))
        assert type(again) is type(error)
        assert "half ?, bell " in str(again)
