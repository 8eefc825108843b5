"""Which releases work together, and what the others are told."""

from __future__ import annotations

import pytest

from dask_pkgsync.model.announcement import Announcement, announcement_from_wire, announcement_to_wire
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.presentation import Presentation, presentation_to_wire, presented
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import OLDEST, PRESENTED, SCHEMA
from dask_pkgsync.model.wire.releases import (
    THIS,
    UNTOLD,
    Release,
    ReleaseMismatchError,
    agree,
    release_from_wire,
    release_to_wire,
)

HERE = Environment.of(Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64"), [])
SIDES = {"here": "the client", "there": "the cluster's scheduler"}


def test_two_releases_agree_on_the_newest_schema_that_both_speak() -> None:
    """Whichever of the two is newer, the older one's newest schema is spoken."""
    assert agree(THIS, **SIDES) == SCHEMA
    assert agree(Release("9.0", OLDEST, SCHEMA + 5), **SIDES) == SCHEMA
    assert agree(Release("0.0.9", OLDEST - 1, OLDEST), **SIDES) == OLDEST


def test_who_is_older_has_to_upgrade() -> None:
    """The sentence says which side, and the first release that would do."""
    with pytest.raises(ReleaseMismatchError) as caught:
        agree(UNTOLD, **SIDES)
    assert "Upgrade it on the cluster's scheduler to 0.2.0 or newer" in str(caught.value)
    assert caught.value.older is UNTOLD
    with pytest.raises(ReleaseMismatchError) as caught:
        agree(Release("9.0", SCHEMA + 4, SCHEMA + 5), **SIDES)
    assert "Upgrade it on the client to 9.0 or newer" in str(caught.value)
    assert f"schemas {SCHEMA + 4} to {SCHEMA + 5}" in str(caught.value)
    assert caught.value.newer.version == "9.0"


def test_a_release_survives_the_wire() -> None:
    """What says nothing of its release is one from before releases said so; what says nonsense is refused."""
    assert release_from_wire(Field(release_to_wire(THIS), "release")) == THIS
    assert release_from_wire(Field(None, "release")) is UNTOLD
    for wrong in ("0.2.0", {"version": "1"}, {"version": "1", "oldest": "1", "newest": 2}):
        with pytest.raises(MessageError):
            release_from_wire(Field(wrong, "release"))


def test_what_is_presented_is_read_whatever_else_a_release_adds() -> None:
    """The environment comes through; who presents nothing is none; another schema names the releases."""
    wire = presentation_to_wire(Presentation(HERE, "ann@laptop"))
    assert presented({"versions": {PRESENTED: {**wire, "later": 1}}}) == HERE
    assert presented({"versions": {}}) is None
    old = {"schema": 1, "person": "ann@laptop", "environment": {"schema": 1}}
    with pytest.raises(ReleaseMismatchError, match="on the client"):
        presented({"versions": {PRESENTED: old}})
    for nonsense in ({"schema": 99}, "junk", {"schema": "2"}, {}):
        with pytest.raises(MessageError):
            presented({"versions": {PRESENTED: nonsense}})
    newer = {**wire, "release": release_to_wire(Release("9.0", SCHEMA + 1, SCHEMA + 1))}
    with pytest.raises(ReleaseMismatchError, match="on the cluster's scheduler"):
        presented({"versions": {PRESENTED: newer}})


def test_what_a_scheduler_announces_is_a_hint() -> None:
    """It survives the wire; what somebody else wrote there is nothing; of an old one the release is not known."""
    told = Announcement("enforce", "ab" * 32, is_guarded=True)
    assert announcement_from_wire(announcement_to_wire(told)) == told
    for nothing in (None, {}, {"mode": 7, "target": ""}, "text", {"mode": "sync"}, [1], 0):
        assert announcement_from_wire(nothing) is None
    old = announcement_from_wire({"mode": "sync", "target": ""})
    assert old is not None
    assert (old.release, old.is_guarded) == (UNTOLD, False)
