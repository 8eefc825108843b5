"""Whatever is sent to a guarded scheduler, it answers, and nothing stays behind.

The same for 100,000 messages, with times and memory: ``python benchmarks/fuzz.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import logging
import os
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import dask
import pytest
from clusters import SOURCE
from distributed import Scheduler
from distributed.comm import connect
from distributed.versions import get_versions
from malformed_messages import (
    CLIENT,
    WORKER,
    Fuzzer,
    left_behind,
    padded,
    presenting,
    say,
    with_other_versions,
    worker_handshake,
)

from dask_pkgsync import scan
from dask_pkgsync.model.environments.environment import environment_to_wire
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from distributed.comm import Comm

REMEMBERED = 300
"""Nodes that may be told of though they have left."""
RINGS = 20
"""Events that Dask keeps of a topic, here: a thousand otherwise."""
TOO_LONG = 60.0
"""Seconds after which nobody waits any more for what is to happen at once."""


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path) -> Iterator[None]:
    with quiet(tmp_path):
        yield


@contextlib.contextmanager
def quiet(cache: Path) -> Iterator[None]:
    """Let nothing be logged thousands of times, and nothing of what Dask keeps for a while be kept for long."""
    config = {
        "distributed.scheduler.preload": ["dask_pkgsync.preload"],
        "distributed.scheduler.events-cleanup-delay": "10 ms",
        "distributed.admin.low-level-log-length": RINGS,
        "distributed.admin.system-monitor.log-length": 1,
        "distributed.worker.profile.enabled": False,  # its samples, with the lines of every file that runs
        "pkgsync.cache-directory": str(cache),
    }
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with dask.config.set(config):
            yield
    finally:
        logging.disable(before)


@contextlib.asynccontextmanager
async def guarded(mode: str) -> AsyncIterator[Scheduler]:
    """Run a scheduler in this process, guarded by its configuration."""
    with dask.config.set({"pkgsync.mode": mode}):
        async with Scheduler(port=0, host="127.0.0.1", dashboard_address=":0") as scheduler:
            yield scheduler


async def settled(scheduler: Scheduler) -> dict[str, Any]:
    """Return what is left when everybody's connection has been noticed to be gone."""
    deadline = monotonic() + TOO_LONG
    while monotonic() < deadline:
        await asyncio.sleep(0.02)
        if len(asyncio.all_tasks()) <= 2 and not scheduler._comms:  # this one, and Dask's own timer
            break
    return {**left_behind(scheduler), "comms": len(scheduler._comms), "asyncio": len(asyncio.all_tasks()) <= 2}


@pytest.mark.parametrize(("mode", "seed"), [("enforce", 1), ("enforce", 2), ("sync", 3)])
def test_whatever_is_sent_is_answered_and_nothing_stays_behind(mode: str, seed: int) -> None:
    """A handshake is let in or refused; a message that fits its handler is answered or told where it is malformed."""

    async def story() -> None:
        async with guarded(mode) as scheduler:
            controller: Any = scheduler.extensions["pkgsync"]
            fuzzer = Fuzzer(seed, scan(modules=False), getattr(controller.target, "id", ""), largest=300)
            before = await settled(scheduler)
            for _ in range(600):
                op, message = fuzzer.message(share_large=0.05)
                try:
                    inspect.signature(scheduler.handlers[op]).bind(*[None] * (op in (CLIENT, WORKER)), **message)
                except TypeError:
                    expected = {"TypeError"}
                else:
                    handshake, others = {"let in", "refused"}, {"answered", "MessageError", "PolicyError"}
                    expected = handshake if op in (CLIENT, WORKER) else others
                    if op == "pkgsync_release" and message.get("schema") is None:
                        expected = {"RuntimeError"}  # as a client of release 0.1 asks, which has no class of ours
                assert await say(scheduler.address, op, message) in expected, (op, list(message))
            after = await settled(scheduler)
        told_of = {name for name in after if name.endswith((".states", ".reports", ".failures", ".logged"))}
        assert all(after[name] <= REMEMBERED for name in told_of)
        assert {name: left for name, left in after.items() if name not in told_of} == {
            name: left for name, left in before.items() if name not in told_of
        }

    asyncio.run(story())


def test_a_client_that_tries_again_and_again_costs_nothing_that_stays(tmp_path: Path) -> None:
    """Neither state nor memory grows with refusals, of clients with and without our preload, and of workers.

    This is measured in a process of its own: what the tests before this one have left behind comes and goes.
    """
    argv = [sys.executable, "-c", f"import sys, {__name__} as here; here.measure(sys.argv[1])", str(tmp_path)]
    path = os.pathsep.join(map(str, (SOURCE, Path(__file__).parents[1], Path(__file__).parent)))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["after"] == found["before"]
    assert found["grown"] < 120 * 400, f"{found['grown']} bytes after 120 refusals"


def measure(cache: str) -> None:
    """Print what is left behind before and after refusals, and by how much 120 of them let this process grow."""
    other = get_versions()
    other["packages"]["cloudpickle"] = "0.1"
    environment = environment_to_wire(scan(modules=False))
    shown = presenting(padded(with_other_versions(environment), 100))
    worker = {**worker_handshake("tcp://127.0.0.1:9", "one"), "versions": other}

    async def refused(scheduler: Scheduler, times: int) -> int:
        for number in range(times):
            for op, message in (
                (CLIENT, {"client": f"Client-{number}", "versions": other}),
                (CLIENT, {"client": f"Client-{number}", "versions": shown}),
                (WORKER, worker),
            ):
                assert await say(scheduler.address, op, message) == "refused"
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def story() -> dict[str, Any]:
        async with guarded("enforce") as scheduler:
            await refused(scheduler, RINGS)
            before = await settled(scheduler)
            tracemalloc.start()
            used = [await refused(scheduler, times) for times in (RINGS, 40, 40)]
            grown = min(later - earlier for earlier, later in pairwise(used))  # what stays shows each time
            return {"before": before, "after": await settled(scheduler), "grown": grown}

    with quiet(Path(cache)):
        print(json.dumps(asyncio.run(story())))


def test_a_release_does_not_open_the_gate_that_the_operator_has_closed() -> None:
    """Where the scheduler's configuration guards it, clients release what they have set, and nothing else."""
    other = get_versions()
    other["packages"]["cloudpickle"] = "0.1"

    async def story() -> None:
        async with guarded("sync") as scheduler:
            assert await say(scheduler.address, "pkgsync_release", {"schema": SCHEMA}) == "answered"
            assert await say(scheduler.address, CLIENT, {"client": "Client-1", "versions": other}) == "refused"

    asyncio.run(story())


def test_who_hangs_up_while_being_judged_leaves_nothing_behind() -> None:
    """Thousands of packages are read in a thread; a client that goes meanwhile, or comes twice, is gone in the end."""
    shown = presenting(padded(environment_to_wire(scan(modules=False)), 5_000))

    async def story() -> None:
        async with guarded("enforce") as scheduler:
            before = await settled(scheduler)
            for _ in range(10):
                comm = await connect(scheduler.address)
                await comm.write({"op": CLIENT, "client": "Client-1", "versions": shown})
                await heard(scheduler, comm)
                comm.abort()
            assert await say(scheduler.address, CLIENT, {"client": "Client-1", "versions": shown}) == "let in"
            assert await settled(scheduler) == before

    asyncio.run(story())


async def heard(scheduler: Scheduler, comm: Comm) -> None:
    """Wait until the scheduler has read what was written over a connection, and looks at it."""
    deadline = monotonic() + TOO_LONG
    while not any(op == CLIENT and there.peer_address == comm.local_address for there, op in scheduler._comms.items()):
        assert monotonic() < deadline
        await asyncio.sleep(0.001)
