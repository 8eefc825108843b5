"""A scheduler has a target resolved once for each platform, and keeps the first answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.resolutions.resolution import Resolution
from dask_pkgsync.model.target import Target
from dask_pkgsync.scheduler.rollout.resolutions import REMEMBERED, Resolutions

MAC = Interpreter("cpython", "3.11.7", "macosx-11.0-arm64", "")
LINUX = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-manylinux_2_36_x86_64")
ARM = replace(LINUX, platform="linux-aarch64", tag="cp311-cp311-manylinux_2_36_aarch64")
TARGET = Target(Environment.of(MAC, [Distribution("six", "1.17.0")]), Policy())


def made(interpreter: Interpreter, version: str = "1.17.0") -> Resolution:
    """Return a resolution for a platform."""
    return Resolution(Environment.of(interpreter, [Distribution("six", version)]))


def test_nodes_that_ask_together_are_resolved_for_once() -> None:
    """The first node of each platform resolves, also if others ask meanwhile or later."""

    async def ask() -> None:
        resolutions, begun = Resolutions(), []
        both_begun, may_end = asyncio.Event(), asyncio.Event()

        async def resolve(interpreter: Interpreter) -> Resolution:
            begun.append(interpreter.platform)
            if len(begun) == 2:
                both_begun.set()
            await may_end.wait()
            return made(interpreter)

        waiting = [
            asyncio.create_task(resolutions.resolved(TARGET, one, lambda one=one: resolve(one)))  # type: ignore[misc]
            for one in (LINUX, LINUX, ARM)
        ]
        await both_begun.wait()
        may_end.set()
        await asyncio.gather(*waiting)
        await resolutions.resolved(TARGET, replace(LINUX, version="3.11.1"), lambda: resolve(LINUX))
        assert sorted(begun) == ["linux-aarch64", "linux-x86_64"]
        known = resolutions.on(TARGET)
        assert known.id == TARGET.id
        assert not known.needs_resolution(LINUX)
        assert not known.needs_resolution(ARM)
        assert resolutions.on(TARGET) is known
        assert resolutions.on(known) is known

    asyncio.run(ask())


def test_a_failure_is_that_of_all_who_wait_and_is_forgotten() -> None:
    """Whoever waited gets the error; the next sync tries again."""

    async def ask() -> None:
        resolutions, tries = Resolutions(), []

        async def fail() -> Resolution:
            tries.append(1)
            await asyncio.sleep(0)
            raise PkgsyncError("no index")

        asked = (resolutions.resolved(TARGET, LINUX, fail) for _ in range(3))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(error) for error in found] == ["no index"] * 3
        with pytest.raises(PkgsyncError):
            await resolutions.resolved(TARGET, LINUX, fail)
        assert len(tries) == 2
        assert resolutions.on(TARGET) is TARGET

    asyncio.run(ask())


def test_the_first_answer_counts_and_memory_is_limited() -> None:
    """Two nodes of a new platform may both have resolved: both get the first answer. What a target has, it keeps."""
    resolutions = Resolutions()
    first = resolutions.keep(TARGET.id, made(LINUX))
    assert resolutions.keep(TARGET.id, made(LINUX, "1.16.0")) is first
    known = resolutions.on(TARGET)
    for number in range(REMEMBERED):
        resolutions.keep(f"{number:064}", made(LINUX))
    assert len(resolutions.kept) == REMEMBERED
    assert resolutions.on(TARGET) is TARGET
    assert resolutions.on(known) is known
