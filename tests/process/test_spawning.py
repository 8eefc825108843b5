"""Which interpreter and search path the children of a process start with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dask_pkgsync.process import spawning


@pytest.fixture
def _undone() -> Any:
    """Let children start as before when the test ends."""
    yield
    for user in ("one", "two"):
        spawning.start_children_here(user)


@pytest.mark.usefixtures("_undone")
def test_who_asks_last_decides_also_if_they_ask_again() -> None:
    """Two nannies of one process may have different layers for a moment: a child starts in that of the latest."""
    python = Path(sys.executable)

    def path_of_a_child() -> list[str]:
        data: dict[str, Any] = {}
        spawning._give_path(data)
        return list(data["sys_path"])

    spawning.start_children_in("one", python, ["a"])
    spawning.start_children_in("two", python, ["b"])
    assert path_of_a_child() == ["b"]
    spawning.start_children_in("one", python, ["c"])
    assert path_of_a_child() == ["c"]
    assert not spawning.start_children_here("one")
    assert path_of_a_child() == ["b"]
