"""What the targets of one cluster are on other platforms than the client's: each is resolved once, and kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from dask_pkgsync.model.resolutions.resolution import platform_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeAlias

    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.resolutions.resolution import Resolution
    from dask_pkgsync.model.target import Target

    Key: TypeAlias = tuple[str, tuple[str, str, str, str]]

REMEMBERED = 50
"""How many resolutions are kept: a target that is asked for again is what it was."""


class Resolutions:
    """The resolutions of one cluster's targets, by target and platform."""

    def __init__(self) -> None:
        self.kept: dict[Key, Resolution] = {}
        self.under_way: dict[Key, asyncio.Task[Resolution]] = {}
        self.last: tuple[Target, Target] | None = None
        """The target that was asked for last, and the same with its resolutions."""

    def on(self, target: Target) -> Target:
        """Return a target with what is known of it; the same object, as long as nothing more is known."""
        own = {platform_of(one.environment.interpreter): one for one in target.resolutions}
        kept = {platform: one for (name, platform), one in self.kept.items() if name == target.id}
        known = tuple({**kept, **own}.values())
        if len(known) == len(target.resolutions):
            return target
        if self.last is None or self.last[0] is not target or self.last[1].resolutions != known:
            self.last = target, replace(target, resolutions=known)
        return self.last[1]

    def keep(self, name: str, resolution: Resolution) -> Resolution:
        """Keep what a node has resolved of a target, by the target's name; return what is kept: the first counts."""
        key = name, platform_of(resolution.environment.interpreter)
        if key not in self.kept and len(self.kept) >= REMEMBERED:
            self.kept.pop(next(iter(self.kept)))
        return self.kept.setdefault(key, resolution)

    async def resolved(
        self, target: Target, interpreter: Interpreter, resolve: Callable[[], Coroutine[Any, Any, Resolution]]
    ) -> None:
        """Let a target be resolved for the platform of an interpreter, unless that was done, or is being done.

        Parameters
        ----------
        target : Target
        interpreter : Interpreter
        resolve : callable
            Lets a node of this platform resolve it. Only the first of several that ask at the same time is called; its
            error is that of all of them.
        """
        key = target.id, platform_of(interpreter)
        if key in self.kept:
            return
        if (task := self.under_way.get(key)) is None:
            task = self.under_way[key] = asyncio.create_task(resolve())
            task.add_done_callback(lambda _: self.under_way.pop(key, None))
        self.keep(target.id, await asyncio.shield(task))
