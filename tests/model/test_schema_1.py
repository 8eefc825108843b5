"""Files of schema 1, which dask-pkgsync 0.1 wrote, are still read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dask_pkgsync import Environment, MessageError
from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromDirectory,
    FromIndex,
    FromModules,
    FromVcs,
    Unrecorded,
)

FILE: dict[str, Any] = {
    "schema": 1,
    "interpreter": ["cpython", "3.11.7", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64"],
    "distributions": [
        ["archived", "1.0", ["archive", "https://host/a.whl", "sha256=ab"], "pip"],
        ["edited", "2.0", ["directory", "file:///src", True, "source=cd"], "uv"],
        ["loose", "0+1", ["modules", "file:///job", "source=ef"], ""],
        ["plain", "3.0", ["index"], "conda"],
        ["system", "4.0", ["unrecorded"], ""],
        ["tracked", "5.0", ["vcs", "https://host/r.git", "f" * 40, "git", "sub"], "pip"],
    ],
    "faults": [["duplicate", "/site/plain", "there twice", "plain"]],
}


def test_a_file_of_schema_1_is_read_whole() -> None:
    """Interpreter, every kind of origin, installers and faults come through, and schema 2 says the same."""
    found = Environment.from_json(json.dumps(FILE))
    origins = {name: one.origin for name, one in found.distributions.items()}
    assert origins == {
        "archived": FromArchive("https://host/a.whl", "sha256=ab"),
        "edited": FromDirectory("file:///src", editable=True, digest="source=cd"),
        "loose": FromModules("file:///job", "source=ef"),
        "plain": FromIndex(),
        "system": Unrecorded(),
        "tracked": FromVcs("https://host/r.git", "f" * 40, "git", "sub"),
    }
    assert found.interpreter.version == "3.11.7"
    assert found.distributions["plain"].installer == "conda"
    assert found.faulty("plain") is not None
    again = Environment.from_json(found.to_json())
    assert (again, again.faults, again.fingerprint) == (found, found.faults, found.fingerprint)
    assert json.loads(found.to_json())["schema"] == 2


def test_the_fingerprint_is_that_of_release_0_1() -> None:
    """The same environment has the same name in both releases."""
    expected = "f1eab1feb7800807b17e99211f47e04f44177b4599908c3a3326334d24849055"
    assert Environment.from_json(json.dumps(FILE)).fingerprint == expected


@pytest.mark.parametrize(
    "change",
    [
        {"interpreter": ["cpython", "3.11.7"]},
        {"distributions": [["plain", "3.0", ["index"]]]},
        {"distributions": [["plain", "3.0", ["index"], ""]] * 2},
        {"distributions": [["plain", "3.0", [], ""]]},
        {"distributions": [["plain", "3.0", ["moon"], ""]]},
        {"distributions": [["plain", "3.0", ["index", "more"], ""]]},
        {"distributions": [["plain", "3.0", [["index"]], ""]]},
        {"distributions": [["-r", "3.0", ["index"], ""]]},
        {"distributions": [["plain", "latest", ["index"], ""]]},
        {"distributions": {"plain": {"version": "3.0"}}},
        {"faults": [["broken", "/x\n", "odd", ""]]},
        {"faults": "none"},
        {"interpreter": None},
    ],
)
def test_a_damaged_file_of_schema_1_is_a_message_error(change: dict[str, Any]) -> None:
    """Lists of another length, names that stand twice and what is no name or version are refused."""
    with pytest.raises(MessageError):
        Environment.from_json(json.dumps({**FILE, **change}))
