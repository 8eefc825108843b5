"""Fuzzed handshakes and messages against a scheduler that is guarded by its configuration.

The scheduler runs in a process of its own. Every step of its event loop is timed: a *block* is one that holds it up.
Beside it, for comparison, a stock scheduler is sent the same messages: what it needs to read them, nobody can save.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import subprocess
import sys
import tempfile
from asyncio.events import Handle
from collections import Counter
from pathlib import Path
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import dask
import psutil
from distributed import Scheduler, protocol, rpc
from fuzzing import Fuzzer, left_behind, say

from dask_pkgsync import scan

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 0.05
"""Seconds that no message may hold the event loop up."""
CLEANUP = "distributed.scheduler.events-cleanup-delay"
"""Dask has a task wait so long for each client or worker that has gone; an hour by default."""


class Blocks:
    """Times every step of the event loops of this process.

    What counts is the processor time of its thread, without what Dask needs to read a message, before anybody can look
    at it. Other processes, and other threads of this one, make the time by the clock longer, on a busy machine by far.
    """

    def __init__(self) -> None:
        self.found: list[tuple[float, float, str]] = []
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
                operations = sorted({str(op)[:40] for op in self.doing().values() if op})
                self.found.append((cpu, seconds, f"{' '.join(operations)} {handle!r}"[:200]))

        Handle._run, protocol.loads = timed, timed_loads  # noqa: SLF001


async def serve(mode: str, cache: str) -> None:
    """Run a scheduler until standard input ends."""
    blocks = Blocks()
    blocks.watch()
    config: dict[str, Any] = {"pkgsync.cache-directory": cache, "pkgsync.modules": False, CLEANUP: "100 ms"}
    if mode != "stock":
        config |= {"distributed.scheduler.preload": ["dask_pkgsync.preload"], "pkgsync.mode": mode}

    async def fuzz_state() -> dict[str, Any]:
        await asyncio.sleep(1)
        gc.collect()
        here = psutil.Process()
        return {
            "blocks": sorted(blocks.found, reverse=True)[:10],
            "left": left_behind(scheduler) if mode != "stock" else {},
            "read": blocks.read,
            "rss": here.memory_info().rss,
            "loop tasks": len(asyncio.all_tasks()),
        }

    async def fuzz_reset() -> str:
        gc.collect()
        blocks.found.clear()
        return ""

    with dask.config.set(config):
        async with Scheduler(port=0, host="127.0.0.1", dashboard_address=":0") as scheduler:
            blocks.doing = lambda: scheduler._comms  # noqa: SLF001
            scheduler.handlers.update(fuzz_state=fuzz_state, fuzz_reset=fuzz_reset)
            coordinator = scheduler.extensions.get("pkgsync")
            target = coordinator.target.id if coordinator and coordinator.target else ""
            print(scheduler.address, target, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def scheduler(mode: str) -> Iterator[tuple[str, str]]:
    """Run a scheduler in another process; yield its address and the name of its target."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-fuzz-") as cache:
        argv = [sys.executable, __file__, "--serve", mode, "--cache", cache]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None
            address, _, target = process.stdout.readline().strip().partition(" ")
            yield address, target
        finally:
            process.communicate()


async def send(address: str, fuzzer: Fuzzer, count: int, report: Any) -> None:
    """Send messages, one at a time, and report on the way."""
    answers: Counter[str] = Counter()
    async with rpc(address) as peer:
        await peer.fuzz_reset()
        for number in range(count + 1):
            if number % max(1, count // 5) == 0:
                report(number, answers, await peer.fuzz_state())
            try:
                answers[await say(address, *fuzzer.message())] += 1
            except ValueError as error:  # what msgpack itself does not send
                answers[f"not sent: {type(error).__name__}"] += 1


def fuzz(mode: str, count: int, seed: int) -> None:
    """Print what happened to so many messages."""
    environment = scan(modules=False)
    with scheduler(mode) as (address, target):
        print(f"\n{count} messages to a scheduler in mode {mode}, seed {seed}")
        started = perf_counter()

        def report(number: int, answers: Counter[str], state: dict[str, Any]) -> None:
            worst = state["blocks"][0] if state["blocks"] else (0.0, 0.0, "")
            above = sum(cpu > LIMIT for cpu, _, _ in state["blocks"])
            print(
                f"{number:>8} {perf_counter() - started:>6.0f} s  memory {state['rss'] / 1e6:.0f} MB"
                f"  loop tasks {state['loop tasks']}"
                f"  worst block {worst[0] * 1e3:.0f} ms of CPU ({worst[1] * 1e3:.0f} ms)"
                f", above {LIMIT * 1e3:.0f} ms: {above}, to read a message: {state['read'] * 1e3:.0f} ms"
                f"  {dict(answers)}",
                flush=True,
            )
            if number == count:
                for cpu, seconds, what in state["blocks"]:
                    print(f"         {cpu * 1e3:>6.1f} ms of CPU, {seconds * 1e3:>6.1f} ms  {what}")
                for name, left in state["left"].items():
                    if left:
                        print(f"         {name}: {str(left)[:300]}")

        asyncio.run(send(address, Fuzzer(seed, environment, target), count, report))


def main(argv: list[str] | None = None) -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="*", default=["stock", "enforce", "sync"])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    if options.serve:
        asyncio.run(serve(options.serve, options.cache))
        return
    for mode in options.modes:
        fuzz(mode, options.messages, options.seed)


if __name__ == "__main__":
    main()
