"""Schedulers in processes of their own, stock ones and such that are guarded by their configuration, to be measured."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import subprocess
import sys
import tempfile
from asyncio.events import Handle
from dataclasses import dataclass
from time import perf_counter, process_time, thread_time
from typing import TYPE_CHECKING, Any

import dask
import psutil
from distributed import Scheduler, protocol, rpc
from malformed_messages import left_behind

from benchmarks import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 0.05
"""Seconds that no message may hold the event loop up."""
STOCK = "stock"
"""A scheduler without us; else the value of ``pkgsync.mode``."""
CLEANUP = "distributed.scheduler.events-cleanup-delay"
"""Dask has a task wait so long for each client or worker that has gone; an hour by default."""


@dataclass(frozen=True)
class Running:
    """A scheduler in another process."""

    address: str
    target: str
    """Name of its target; empty if there is none."""

    async def state(self) -> dict[str, Any]:
        """Return what it has used, and what is left of those who have gone."""
        async with rpc(self.address) as peer:
            found: dict[str, Any] = await peer.bench_state()
            return found

    async def cpu(self) -> float:
        """Return the seconds of processor time that it has used."""
        async with rpc(self.address) as peer:
            return float(await peer.bench_cpu())


@contextlib.contextmanager
def scheduler(mode: str) -> Iterator[Running]:
    """Run a scheduler in another process."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-") as cache:
        argv = [sys.executable, "-m", "benchmarks.schedulers", mode, cache]
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=CHECKOUT)
        try:
            assert process.stdout is not None
            address, _, target = process.stdout.readline().strip().partition(" ")
            assert address, f"a scheduler in mode {mode} did not start"
            yield Running(address, target)
        finally:
            process.communicate()


class Blocks:
    """Times every step of the event loops of this process.

    What counts is the processor time of its thread, without what Dask needs to read a message, before anybody can look
    at it. Other processes, and other threads of this one, make the time by the clock longer, on a busy machine by far.
    """

    def __init__(self) -> None:
        self.found: list[tuple[float, float, str]] = []
        self.above = 0
        self.doing: Any = dict
        self.reading = 0.0
        self.read = 0.0

    def watch(self) -> None:
        """Begin; asyncio and Dask have no hooks for it."""
        run, loads = Handle._run, protocol.loads  # noqa: SLF001

        def timed_loads(*arguments: Any, **more: Any) -> Any:
            started = thread_time()
            try:
                return loads(*arguments, **more)
            finally:
                self.reading += thread_time() - started

        def timed(handle: Handle) -> None:
            started, cpu, self.reading = perf_counter(), thread_time(), 0.0
            run(handle)
            cpu, seconds = thread_time() - cpu - self.reading, perf_counter() - started
            self.read = max(self.read, self.reading)
            if seconds > LIMIT / 5:
                self.above += cpu > LIMIT
                doing = sorted({str(op)[:40] for op in self.doing().values() if op})
                self.found = sorted([*self.found, (cpu, seconds, f"{' '.join(doing)} {handle!r}"[:200])])[-10:]

        Handle._run, protocol.loads = timed, timed_loads  # noqa: SLF001

    def forget(self) -> None:
        """Begin anew."""
        self.found, self.above, self.read = [], 0, 0.0


async def serve(mode: str, cache: str) -> None:
    """Run a scheduler until standard input ends."""
    blocks = Blocks()
    blocks.watch()
    config: dict[str, Any] = {"pkgsync.cache-directory": cache, "pkgsync.modules": False, CLEANUP: "100 ms"}
    if mode != STOCK:
        config |= {"distributed.scheduler.preload": ["dask_pkgsync.preload"], "pkgsync.mode": mode}

    async def bench_state() -> dict[str, Any]:
        await asyncio.sleep(1)
        found = {"worst": blocks.found[::-1], "above": blocks.above, "read": blocks.read}
        gc.collect()
        await asyncio.sleep(0)
        blocks.forget()  # what that took
        return {
            **found,
            "left": left_behind(scheduler) if mode != STOCK else {},
            "rss": psutil.Process().memory_info().rss,
            "loop tasks": len(asyncio.all_tasks()),
        }

    async def bench_cpu() -> float:
        return process_time()

    with dask.config.set(config):
        async with Scheduler(port=0, host="127.0.0.1", dashboard_address=":0") as scheduler:
            blocks.doing = lambda: scheduler._comms  # noqa: SLF001
            scheduler.handlers.update(bench_state=bench_state, bench_cpu=bench_cpu)
            target = getattr(scheduler.extensions.get("pkgsync"), "target", None)
            print(scheduler.address, target.id if target else "", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(serve(*sys.argv[1:]))
