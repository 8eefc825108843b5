"""The environments that a gate has let in: how many are remembered, and what may be said of them."""

from __future__ import annotations

from typing import Any

import pytest

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.presentation import Recognition
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scheduler.clients import acquaintances
from dask_pkgsync.scheduler.clients.acquaintances import Acquaintances


def environment(name: str, count: int = 1) -> Environment:
    """Return an environment of so many distributions."""
    return Environment.of(this_interpreter(), (Distribution(f"{name}-{number}", "1.0") for number in range(count)))


def test_who_is_recognised_has_been_let_in_and_has_nothing_to_sync() -> None:
    """Both are needed: the environment, and the target that is in force."""
    known = Acquaintances(lambda target: target == "in force")
    mine = environment("mine")
    assert not known.recognises(Recognition(mine.fingerprint, "in force"))
    known.remember(mine)
    assert known.recognises(Recognition(mine.fingerprint, "in force"))
    assert not known.recognises(Recognition(mine.fingerprint, "another"))
    assert not known.recognises(Recognition(environment("other").fingerprint, "in force"))
    known.forget()
    assert not known.recognises(Recognition(mine.fingerprint, "in force"))


@pytest.mark.parametrize(("limit", "kept"), [(10, "abc"), (9, "bc"), (5, "c"), (1, "c")])
def test_the_oldest_are_forgotten_first(limit: int, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All together have so many distributions; the newest stays in any case."""
    monkeypatch.setattr(acquaintances, "MAX_DISTRIBUTIONS", limit)
    known: Any = Acquaintances(lambda _: True)
    found = {"a": environment("a", 2), "b": environment("b", 3), "c": environment("c", 5)}
    for one in (found["b"], found["a"], found["b"], found["c"]):  # b was seen again
        known.remember(one)
    assert list(known.environments.values()) == [found[name] for name in kept]
