"""Fuzzed handshakes and messages, and clients that try again and again, against a guarded scheduler.

The scheduler runs in a process of its own. Every step of its event loop is timed: a *block* is one that holds it up.
Beside it, for comparison, a stock scheduler is sent the same messages.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from distributed.versions import get_versions
from malformed_messages import CLIENT, Fuzzer, padded, presenting, say, with_other_versions

from benchmarks.schedulers import LIMIT, STOCK, scheduler
from benchmarks.table import Table
from dask_pkgsync import scan
from dask_pkgsync.model.environments.environment import environment_to_wire
from dask_pkgsync.model.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.race import Scale
    from benchmarks.schedulers import Running
    from dask_pkgsync import Environment

MODES = (STOCK, "enforce", "sync")
USUAL = {"let in", "refused", "answered", "MessageError", "PolicyError", "TypeError"}
"""Answers; the first message with another one is shown."""


class Record:
    """Prints how a scheduler does, now and then."""

    def __init__(self, running: Running, title: str) -> None:
        self.running, self.title = running, title
        self.answers: Counter[str] = Counter()
        self.started = perf_counter()
        self.worst: list[tuple[float, float, str]] = []
        self.above = 0
        self.read = 0.0
        print(f"\n{title}", flush=True)

    def table(self) -> Table:
        """Return the worst block, beside the limit; there may be none that was worth noting."""
        seconds = {"the worst block": [self.worst[0][0] if self.worst else 0.0], "the limit": [LIMIT]}
        return Table(self.title, seconds, "the worst block", {"the limit": "< 1"})

    async def show(self, number: int) -> dict[str, Any]:
        """Print one line; return the scheduler's state."""
        state = await self.running.state()
        if number:  # not what its start took
            self.worst = sorted([*self.worst, *map(tuple, state["worst"])], reverse=True)[:10]
            self.above += state["above"]
            self.read = max(self.read, state["read"])
        worst = self.worst[0] if self.worst else (0.0, 0.0)
        print(
            f"{number:>8} {perf_counter() - self.started:>6.0f} s  memory {state['rss'] / 1e6:.0f} MB"
            f"  tasks of the loop {state['loop tasks']}  worst block {worst[0] * 1e3:.0f} ms, {self.above} above"
            f" {LIMIT * 1e3:.0f} ms; longest to read a message {self.read * 1e3:.0f} ms  {dict(self.answers)}",
            flush=True,
        )
        return state

    def end(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Print the worst blocks, and what was left behind."""
        for cpu, seconds, what in self.worst:
            print(f"         {cpu * 1e3:>6.1f} ms ({seconds * 1e3:.1f} ms by the clock)  {what}")
        changed = {name: left for name, left in after["left"].items() if left != before["left"][name]}
        if before["left"]:  # not looked at on a stock scheduler
            print(f"         left behind: {changed or 'nothing'}")


async def send(
    running: Running, messages: Iterator[tuple[str, dict[str, Any]]], count: int, title: str, reports: int
) -> Table:
    """Send messages, one at a time, and report on the way."""
    record = Record(running, title)
    before = await record.show(0)
    after = before
    for number in range(1, count + 1):
        op, message = next(messages)
        try:
            answer = await say(running.address, op, message)
        except (ValueError, TimeoutError) as error:  # what msgpack itself does not send; or no answer
            answer = f"not sent, or not answered: {type(error).__name__}"
        record.answers[answer] += 1
        if answer not in USUAL and record.answers[answer] == 1:
            print(f"         {answer}: {op} { {key: shown(value) for key, value in message.items()}!a}"[:1_000])
        if number % (count // reports) == 0:
            after = await record.show(number)
    record.end(before, after)
    return record.table()


def refusals(environment: Environment) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make the handshakes of clients that are refused: stock ones, and such that present what they have."""
    wire = environment_to_wire(environment)
    other = get_versions()
    other["packages"]["cloudpickle"] = "0.1"
    presented = presenting(padded(with_other_versions(wire), 500))
    number = 0
    while True:
        number += 1
        yield CLIENT, {"client": f"Client-{number}", "versions": presented if number % 2 else other}


def messages(fuzzer: Fuzzer) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make fuzzed messages up."""
    while True:
        yield fuzzer.message()


def attack(modes: Sequence[str], count: int, refused: int, *, seed: int = 1, reports: int = 5) -> Iterator[Table]:
    """Send fuzzed messages to a scheduler in each mode, and handshakes that are refused to another one."""
    logging.disable(logging.CRITICAL)
    environment = scan(modules=False)
    for mode in modes:
        with scheduler(mode) as running:
            made = messages(Fuzzer(seed, environment, running.target))
            title = f"{count} messages to a scheduler in mode {mode}, seed {seed}"
            yield asyncio.run(send(running, made, count, title, reports))
    if refused:
        with scheduler("enforce") as running:
            made = refusals(environment)
            title = f"{refused} refusals in mode enforce"
            yield asyncio.run(send(running, made, refused, title, reports))


def benchmark(scale: Scale) -> Iterator[Table]:
    """Send so much that what is left behind, and what holds the event loop up, is seen."""
    if scale.small:
        yield from attack(("sync",), 10, 4, reports=1)
    else:
        yield from attack(MODES, 100_000, 10_000)


def main(argv: list[str] | None = None) -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--refusals", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="*", default=MODES)
    options = parser.parse_args(argv)
    for table in attack(options.modes, options.messages, options.refusals, seed=options.seed):
        print(table)


if __name__ == "__main__":
    main()
