"""What the gate costs: a connection, a whole ``Client()``, and a worker that joins; beside stock Dask, in turn."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from distributed.comm import connect
from distributed.versions import get_versions
from fuzzing import CLIENT, WORKER, padded, presenting, say, worker_handshake
from schedulers import STOCK, scheduler
from table import show

from dask_pkgsync import scan
from dask_pkgsync.model.environments.environment import environment_to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from distributed.comm import Comm
    from schedulers import Running

CLIENTS = """
import json, sys, time, warnings
from distributed import Client
seconds = []
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    with Client(sys.argv[1], set_as_default=False):
        seconds.append(time.perf_counter() - started)
print(json.dumps(seconds))
"""
"""Connects again and again, in a process of its own; the first time differs from the others."""


async def connection(running: Running, versions: dict[str, Any]) -> float:
    """Return the seconds until a client is let in."""
    started = perf_counter()
    assert await say(running.address, CLIENT, {"client": "Client-1", "versions": versions}) == "let in"
    return perf_counter() - started


def connections(runs: int) -> None:
    """Print what a connection costs, by how much a client presents; the scheduler's processor time as well."""
    environment = environment_to_wire(scan(modules=False))
    environment["distributions"] = dict(list(environment["distributions"].items())[:50])
    with scheduler(STOCK) as stock, scheduler("sync") as gated:
        shown = {
            "stock client, stock scheduler": (stock, get_versions()),
            "stock client, gate": (gated, get_versions()),
            **{f"presents {n:,}, gate": (gated, presenting(padded(environment, n))) for n in (50, 500, 5_000)},
        }
        seconds: dict[str, list[float]] = {name: [] for name in shown}
        busy: dict[str, list[float]] = {name: [] for name in shown}

        async def measure() -> None:
            for _ in range(runs):
                for name, (running, versions) in shown.items():
                    before = await running.cpu()
                    seconds[name].append(await connection(running, versions))
                    busy[name].append(await running.cpu() - before)

        asyncio.run(measure())
    for title, what in (("seconds to be let in", seconds), ("processor time of the scheduler for it", busy)):
        for ours in list(what)[1:]:
            show(f"{title}: {ours}", {ours: what[ours], "stock": what["stock client, stock scheduler"]}, ours, {})


@contextlib.contextmanager
def site(count: int) -> Any:
    """Make a directory with the metadata of so many distributions, for PYTHONPATH."""
    with TemporaryDirectory(prefix="pkgsync-bench-") as root:
        for number in range(count):
            directory = Path(root, f"package_number_{number}-1.{number % 90}.dist-info")
            directory.mkdir()
            name = f"Metadata-Version: 2.1\nName: package-number-{number}\nVersion: 1.{number % 90}\n"
            (directory / "METADATA").write_text(name)
            (directory / "INSTALLER").write_text("uv\n")
            (directory / "RECORD").write_text("")
        yield root


def clients(running: Running, path: str, count: int, **env: str) -> list[float]:
    """Return the seconds of each ``Client()`` of one process."""
    argv = [sys.executable, "-c", CLIENTS, running.address, str(count)]
    more = {"PYTHONPATH": os.pathsep.join([path, str(Path(__file__).parents[1])]), **env}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, **more})
    return [float(one) for one in json.loads(done.stdout)]


def whole_clients(runs: int) -> None:
    """Print what ``Client()`` costs that presents, and syncs if configured, where everything matches."""
    ours = {"DASK_DISTRIBUTED__CLIENT__PRELOAD": '["dask_pkgsync.preload"]', "DASK_PKGSYNC__MODULES": "false"}
    with scheduler(STOCK) as stock, scheduler("enforce") as gated:
        for more in (0, 500, 5_000):
            seconds: dict[str, list[float]] = {}
            with site(more) as path:
                for _ in range(runs):
                    for name, running, env in (("stock", stock, {}), ("ours", gated, ours)):
                        first, *others = clients(running, path, 6, **env)
                        seconds.setdefault(f"{name}, the first of a process", []).append(first)
                        seconds.setdefault(f"{name}, another", []).extend(others)
            title = f"Client(), everything matches, {more:,} packages more than the scheduler's"
            for when in ("the first of a process", "another"):
                both = {f"{name}, {when}": seconds[f"{name}, {when}"] for name in ("ours", "stock")}
                show(title, both, f"ours, {when}", {f"stock, {when}": "<= 1.2"})


@contextlib.asynccontextmanager
async def joined(running: Running, count: int, first: int) -> AsyncIterator[list[Comm]]:
    """Let so many workers with nannies be in the cluster, verified against its target."""
    extra = {"pkgsync": {"target": running.target}}
    comms = []
    try:
        for number in range(first, first + count):
            host, port = f"127.0.{number // 250}.{number % 250 + 1}", 10_000
            message = worker_handshake(f"tcp://{host}:{port}", f"worker-{number}")
            comm = await connect(running.address)
            comms.append(comm)
            await comm.write({"op": WORKER, "reply": False, **message, "nanny": f"tcp://{host}:9", "extra": extra})
            answer = await comm.read()
            assert answer["status"] == "OK", answer
        yield comms
    finally:
        for comm in comms:
            comm.abort()


async def join(running: Running, nodes: int, joining: int) -> float:
    """Return the scheduler's processor time for one of some workers that join beside so many others."""
    async with joined(running, nodes, 0):
        await asyncio.sleep(1)
        before = await running.cpu()
        async with joined(running, joining, nodes):
            used = (await running.cpu() - before) / joining
    await asyncio.sleep(1)
    return used


def joining(runs: int) -> None:
    """Print what a joining worker costs, by how many there are: flat is the goal, beside what Dask does itself."""
    flat: dict[str, list[float]] = {}
    with scheduler(STOCK) as stock, scheduler("enforce") as gated:
        for nodes in (10, 100, 1_000):
            seconds: dict[str, list[float]] = {"gate": [], "stock": []}
            for _ in range(runs):
                for name, running in (("stock", stock), ("gate", gated)):
                    seconds[name].append(asyncio.run(join(running, nodes, 50)))
            flat[f"gate, {nodes:,} nodes"] = seconds["gate"]
            show(f"processor time for a worker that joins {nodes:,} others", seconds, "gate", {})
    show("the same by the number of nodes", flat, "gate, 1,000 nodes", {})


def main(argv: list[str] | None = None) -> None:
    """Run, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args(argv).runs
    logging.disable(logging.CRITICAL)
    connections(runs * 20)
    whole_clients(runs)
    joining(runs)


if __name__ == "__main__":
    main()
