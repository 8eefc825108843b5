"""What a contract is: a law that Dask keeps without having promised it, and what of ours relies on it."""

from __future__ import annotations

import asyncio
import threading
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE = 60.0
"""Seconds in which a law must have been found kept."""
GRACE = 10.0
"""Seconds more for what was started meanwhile to end, after which it is left running."""


@dataclass(frozen=True)
class Contract:
    """A law, with what checks it."""

    name: str
    law: str
    """One sentence about Dask."""
    relied_on_by: tuple[Any, ...]
    """The functions and classes of `dask_pkgsync` that are wrong where Dask does not keep it."""
    check: Callable[[], Awaitable[None]]
    """Raises where Dask does not keep it."""

    def broken(self) -> str:
        """Return nothing where the Dask of this process keeps the law, else what a developer has to know.

        A thread checks it, as a Dask that does not keep it may never let go of the event loop.
        """
        outcome = ["It does not come to an end.\n"]

        def check() -> None:
            try:
                asyncio.run(asyncio.wait_for(self.check(), PATIENCE))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told
                outcome[0] = "".join(traceback.format_exception(error)[-4:])
            else:
                outcome.clear()

        thread = threading.Thread(target=check, name=self.name, daemon=True)
        thread.start()
        thread.join(PATIENCE + GRACE)
        return self._told(*outcome) if outcome else ""

    def _told(self, how: str) -> str:
        places = "\n".join(f"  {place(one)}" for one in self.relied_on_by)
        return (
            f"distributed {version('distributed')} does not keep this law: {self.law}\n{how}"
            f"What to do: see whether these are still right, and what their docstrings say:\n{places}"
        )


CONTRACTS: dict[str, Contract] = {}
"""All contracts that have been imported, by name."""


def relied_on_by(*ours: Any) -> Callable[[Callable[[], Awaitable[None]]], Callable[[], Awaitable[None]]]:
    """Make a contract of a function: its docstring is the law."""

    def register(check: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        name, said = check.__name__, " ".join((check.__doc__ or "").split())
        assert name not in CONTRACTS
        CONTRACTS[name] = Contract(name, said, ours, check)
        return check

    return register


def place(ours: Any) -> str:
    """Return where something of ours is: module and name."""
    return f"{ours.__module__}.{ours.__qualname__}"
