"""What the gate costs: a connection, a whole ``Client()``, and a worker that joins; beside stock Dask, in turn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import SOURCE
from distributed.comm import connect
from distributed.versions import get_versions
from malformed_messages import CLIENT, WORKER, padded, presenting, say, worker_handshake

from benchmarks.race import Measured, Race, Scale
from benchmarks.schedulers import STOCK, scheduler
from dask_pkgsync import scan
from dask_pkgsync.model.environments.environment import environment_to_wire
from dask_pkgsync.model.record import recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from distributed.comm import Comm

    from benchmarks.schedulers import Running

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


async def connection(running: Running, versions: dict[str, Any]) -> Measured:
    """Return the seconds until a client is let in."""
    started = perf_counter()
    assert await say(running.address, CLIENT, {"client": "Client-1", "versions": versions}) == "let in"
    return Measured(perf_counter() - started)


async def thinking(running: Running, versions: dict[str, Any]) -> Measured:
    """Return the scheduler's processor time until a client is let in."""
    before = await running.cpu()
    await connection(running, versions)
    return Measured(await running.cpu() - before)


def connections(stock: Running, gated: Running, sizes: Sequence[int]) -> Iterator[Race]:
    """Tell what a connection costs, by how much a client presents; the scheduler's processor time as well."""
    environment = environment_to_wire(scan(modules=False))
    environment["distributions"] = dict(list(environment["distributions"].items())[:50])
    shown = {
        "stock client, gate": get_versions(),
        **{f"presents {n:,}, gate": presenting(padded(environment, n)) for n in sizes},
    }
    for title, seconds in (("seconds to be let in", connection), ("processor time of the scheduler for it", thinking)):
        peer = {"stock client, stock scheduler": partial(_call, seconds, stock, get_versions())}
        for name, versions in shown.items():
            ours = {name: partial(_call, seconds, gated, versions)}
            yield Race(f"{title}: {name}", ours, peer, runs=60, warm=True)


def _call(function: Any, *arguments: Any) -> Measured:
    """Run something on an event loop of its own."""
    seconds: Measured = asyncio.run(function(*arguments))
    return seconds


REQUIRES = "".join(f"Requires-Dist: package-number-{number} >=1.0\n" for number in range(5))
PROJECT_FILES = 170


@contextlib.contextmanager
def site(count: int) -> Iterator[Path]:
    """Make what a person has: so many distributions, an editable project, and a script with a module beside it."""
    with TemporaryDirectory(prefix="pkgsync-bench-") as directory:
        root, places = Path(directory), ("site", "project/mine", "job")
        for place in places:
            (root / place).mkdir(parents=True)
        for number in range(count):
            _installed(root / "site", f"package-number-{number}", f"1.{number % 90}", REQUIRES)
        info = _installed(root / "site", "mine", "1.0")
        origin = {"url": (root / "project").as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(origin))
        (root / "site" / "mine.pth").write_text(f"{root / 'project'}\n")
        for number in range(PROJECT_FILES):
            (root / "project" / "mine" / f"module{number}.py").write_text(f"value = {number}\n" * 50)
        (root / "job" / "job.py").write_text(CLIENTS)
        (root / "job" / "beside.py").write_text("value = 1\n")
        yield root


def _installed(site: Path, name: str, version: str, requires: str = "") -> Path:
    """Make a distribution of one module, and return its metadata."""
    module = name.replace("-", "_")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (site / f"{module}.py").write_text("")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
    (info / "INSTALLER").write_text("uv\n")
    (info / "RECORD").write_text(f"{recorded(f'{module}.py', b'')}\n{info.name}/RECORD,,\n")
    return info


def clients(running: Running, root: Path, count: int, **env: str) -> list[float]:
    """Return the seconds of each ``Client()`` of one process."""
    argv = [sys.executable, "-W", "ignore", str(root / "job" / "job.py"), running.address, str(count)]
    more = {"PYTHONPATH": os.pathsep.join([str(root / "site"), str(SOURCE)]), "XDG_CACHE_HOME": str(root / "cache")}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, **more, **env})
    return [float(one) for one in json.loads(done.stdout)]


def first(running: Running, path: Path, **env: str) -> Measured:
    """Return the seconds of the first ``Client()`` of a process."""
    return Measured(clients(running, path, 1, **env)[0])


def another(running: Running, path: Path, **env: str) -> Measured:
    """Return the seconds of a ``Client()`` of a process that has had one."""
    return Measured(median(clients(running, path, 12, **env)[1:]))


def whole_clients(stock: Running, gated: Running, sizes: Sequence[int]) -> Iterator[Race]:
    """Tell what ``Client()`` costs that presents, and syncs if configured, where everything matches."""
    # (One module, and not all of this checkout, which is on PYTHONPATH.)
    env = {"DASK_DISTRIBUTED__CLIENT__PRELOAD": '["dask_pkgsync.preload"]', "DASK_PKGSYNC__MODULES": '["beside"]'}
    for more in sizes:
        title = (
            f"Client(), everything matches, an editable project, a module, {more:,} packages more than the scheduler's"
        )
        with site(more) as path:
            for when, seconds, goal in (("the first of a process", first, "<= 1.5"), ("another", another, "<= 1.2")):
                ours = {f"ours, {when}": partial(seconds, gated, path, **env)}
                peer = {f"stock, {when}": partial(seconds, stock, path)}
                # (Done once before: the first time of all, the scheduler does not know the environment.)
                yield Race(f"{title}, {when}", ours, peer, dict.fromkeys(peer, goal), runs=7, warm=True)


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


async def join(running: Running, nodes: int, joining: int) -> Measured:
    """Return the scheduler's processor time for one of some workers that join beside so many others."""
    async with joined(running, nodes, 0):
        await asyncio.sleep(1)
        before = await running.cpu()
        async with joined(running, joining, nodes):
            used = (await running.cpu() - before) / joining
    await asyncio.sleep(1)
    return Measured(used)


def joining(stock: Running, gated: Running, sizes: Sequence[int], count: int) -> Iterator[Race]:
    """Tell what a joining worker costs, by how many there are: flat is the goal, beside what Dask does itself."""
    by_size = {f"gate, {nodes:,} nodes": partial(_call, join, gated, nodes, count) for nodes in sizes}
    for nodes, (name, ours) in zip(sizes, by_size.items(), strict=True):
        title = f"processor time for a worker that joins {nodes:,} others"
        yield Race(title, {name: ours}, {"stock": partial(_call, join, stock, nodes, count)}, runs=3)
    if len(sizes) > 1:
        yield Race("the same by the number of nodes", dict(reversed(by_size.items())), runs=3)


def benchmark(scale: Scale) -> Iterator[Race]:
    """Connect clients, and workers."""
    logging.disable(logging.CRITICAL)
    with scheduler(STOCK) as stock:
        with scheduler("sync") as gated:
            yield from connections(stock, gated, scale.pick((50, 500, 5_000), (50,)))
        with scheduler("enforce") as gated:
            yield from whole_clients(stock, gated, scale.pick((0, 500, 5_000), (0,)))
            yield from joining(stock, gated, *scale.pick(((10, 100, 1_000), 50), ((2,), 2)))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["gate", *sys.argv[1:]])
