"""How much memory a scheduler needs for us, with many nodes and clients: more than a stock one with the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from distributed.comm import connect
from distributed.versions import get_versions
from malformed_messages import CLIENT, padded, presenting

from benchmarks.gate import joined
from benchmarks.schedulers import STOCK, scheduler
from benchmarks.table import Table
from dask_pkgsync import scan
from dask_pkgsync.model.environments.environment import environment_to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from benchmarks.race import Scale
    from benchmarks.schedulers import Running

LIMIT = 20e6
"""Bytes that a thousand nodes and twenty clients may need."""


@contextlib.asynccontextmanager
async def connected(running: Running, versions: dict[str, Any], count: int) -> AsyncIterator[None]:
    """Let so many clients be connected."""
    comms = []
    try:
        for number in range(count):
            comm = await connect(running.address)
            comms.append(comm)
            await comm.write({"op": CLIENT, "reply": False, "client": f"Client-{number}", "versions": versions})
            (answer,) = await comm.read()
            assert answer["op"] == "stream-start", answer
        yield
    finally:
        for comm in comms:
            comm.abort()


async def growth(running: Running, versions: dict[str, Any], nodes: int, clients: int) -> float:
    """Return the bytes by which a scheduler grows for so many nodes and clients."""
    async with joined(running, 2, nodes), connected(running, versions, 1):  # what the first of a kind needs
        before = (await running.state())["rss"]
        async with joined(running, nodes, 0), connected(running, versions, clients):
            return float((await running.state())["rss"] - before)


def benchmark(scale: Scale) -> Iterator[Table]:
    """Let many join a stock scheduler, and a guarded one."""
    logging.disable(logging.CRITICAL)
    nodes, clients, packages = scale.pick((1_000, 20, 500), (10, 2, 50))
    shown = {STOCK: get_versions(), "enforce": presenting(padded(environment_to_wire(scan(modules=False)), packages))}
    grown = {}
    for mode, versions in shown.items():
        with scheduler(mode) as running:
            grown[mode] = asyncio.run(growth(running, versions, nodes, clients))
    ours = max(grown["enforce"] - grown[STOCK], 1.0)
    rows = {"more than stock": [ours], "the limit": [LIMIT], "a stock scheduler": [grown[STOCK]]}
    title = f"memory of a scheduler for {nodes:,} nodes and {clients} clients with {packages} packages each"
    yield Table(title, rows, "more than stock", {"the limit": "<= 1"}, unit="B")


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["memory", *sys.argv[1:]])
