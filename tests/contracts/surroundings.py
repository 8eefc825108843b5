"""Schedulers, workers and clients in this process, and how to wait for what they do."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, Scheduler, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

OP = "pkgsync-contract"
"""Of messages, handlers, topics and plugins that only contracts use."""


@contextlib.asynccontextmanager
async def scheduler_here(**rest: Any) -> AsyncIterator[Scheduler]:
    """Run a scheduler."""
    with dask.config.set({"distributed.scheduler.preload": [], "distributed.client.preload": []}):
        async with Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address=":0", **rest) as scheduler:
            yield scheduler


@contextlib.asynccontextmanager
async def worker_of(scheduler: Scheduler, **rest: Any) -> AsyncIterator[Worker]:
    """Run a worker without a nanny."""
    async with Worker(scheduler.address, nthreads=1, dashboard=False, dashboard_address=":0", **rest) as worker:
        yield worker


@contextlib.asynccontextmanager
async def client_of(scheduler: Scheduler, **rest: Any) -> AsyncIterator[Client]:
    """Connect a client."""
    async with Client(scheduler.address, asynchronous=True, set_as_default=False, timeout=20, **rest) as client:
        yield client


@contextlib.contextmanager
def raising(kind: type[Exception], text: str) -> Iterator[None]:
    """Expect an exception that says this, itself or its cause: there is no pytest where contracts run."""
    try:
        yield
    except kind as error:
        assert text in f"{error} {error.__cause__}"  # noqa: PT017
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so, for as long as it takes on the slowest machine."""
    deadline = monotonic() + 15
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


async def a_moment() -> None:
    """Wait as long as something takes that should not happen."""
    await asyncio.sleep(0.2)


def say(client: Client, number: int) -> None:
    """Send a message as all public methods of a client do in the end."""
    client._send_to_scheduler({"op": OP, "number": number})


def heard_by(scheduler: Scheduler) -> list[int]:
    """Return a list that fills with what clients `say`."""
    heard: list[int] = []

    def handle(client: str, number: int) -> None:
        heard.append(number)

    scheduler.stream_handlers[OP] = handle
    return heard


def into(heard: list[int]) -> Callable[[int], None]:
    """Return a handler of a client's that puts what it gets into a list."""

    def handle(number: int) -> None:
        heard.append(number)

    return handle


def break_stream(client: Client) -> None:
    """Break a client's connection, as a network does."""
    client.scheduler_comm.comm.abort()
