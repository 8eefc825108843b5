"""The scheduler asks clients for wheels: nobody waits for ever, and everybody is told why."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import pytest

from dask_pkgsync.adapters import supply as supplying
from dask_pkgsync.adapters.supply import Supply
from dask_pkgsync.adapters.topic import WANTED
from dask_pkgsync.core.environment import Distribution, Environment
from dask_pkgsync.core.errors import LayerError, MessageError, WheelError
from dask_pkgsync.core.messages import Target
from dask_pkgsync.core.parcels import Parcel, Request, parcel_to_wire, requests_to_wire, wheel_error_to_wire
from dask_pkgsync.core.policy import Policy
from dask_pkgsync.shell.scan import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE, TWO = Request("one", "1.0", "c0ffee"), Request("two", "1.0", "c0ffee")
DIGEST = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # of b"a"


def parcel(request: Request) -> Parcel:
    """Return a wheel of one byte."""
    return Parcel(request, f"{request.name}-1.0-py3-none-any.whl", DIGEST, 1)


class Clients:
    """A scheduler as far as it knows clients: the seam through which they are asked."""

    def __init__(self, *names: str) -> None:
        self.clients: dict[str, object] = {name: SimpleNamespace() for name in names}
        self.sent: list[tuple[str, list[str]]] = []

    def client_send(self, client: str, message: dict[str, Any]) -> None:
        assert message["op"] == WANTED
        self.sent.append((client, [name for name, _, _ in message["requests"]]))


@pytest.fixture
def scheduler() -> Clients:
    """Return a scheduler with two clients."""
    return Clients("ann", "ben")


@pytest.fixture
def supply(scheduler: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supply]:
    """Return the supply of that scheduler, which looks at its clients often."""
    monkeypatch.setattr(supplying, "_PATIENCE", 0.02)
    with dask.config.set({"pkgsync.cache-directory": str(tmp_path)}):
        yield Supply(scheduler, lambda event: None)  # type: ignore[arg-type]


async def upload(supply: Supply, request: Request) -> None:
    """Do what a client does."""
    wire = parcel_to_wire(parcel(request))
    if (await supply.handle_offer([wire], []))["offsets"] == [0]:
        assert await supply.handle_put(wire, 0, b"a") == {"offset": 1}


async def refuse(supply: Supply, request: Request, problem: str) -> None:
    """Do what a client does that cannot pack something."""
    wire = wheel_error_to_wire(WheelError(request.name, problem, advice="Mend it.", last_words="boom"))
    await supply.handle_offer([], [[requests_to_wire([request])[0], wire]])


def test_nodes_that_ask_for_the_same_make_one_request(supply: Supply, scheduler: Clients) -> None:
    """However many wait, the client is asked once; later nodes get what is there."""

    async def story() -> None:
        await supply.serve("ann", "")
        waiting = [asyncio.create_task(supply.obtain([ONE, TWO])) for _ in range(5)]
        await asyncio.sleep(0.1)
        assert scheduler.sent == [("ann", ["one", "two"])]
        await upload(supply, TWO)
        await upload(supply, ONE)
        for task in waiting:
            assert [found.request for found in await task] == [ONE, TWO]
        assert (await supply.handle_get(parcel_to_wire(parcel(ONE)), 0))["data"] == b"a"
        assert len(scheduler.sent) == 1

    asyncio.run(story())


def test_a_refusal_of_one_is_told_while_another_is_awaited(supply: Supply, scheduler: Clients) -> None:
    """In whatever order answers come; and for the time of a sync it is not asked again."""

    async def story() -> None:
        await supply.serve("ann", "")
        waiting = asyncio.create_task(supply.handle_parcels(requests_to_wire([ONE, TWO])))
        await asyncio.sleep(0.05)
        await refuse(supply, TWO, "does not build")
        await upload(supply, ONE)
        failure = (await waiting)["failure"]
        assert failure["problem"] == "two: does not build"
        assert failure["last-words"] == "boom"
        with pytest.raises(LayerError, match="does not build"):
            await supply.obtain([TWO])
        assert len(scheduler.sent) == 1
        await supply.serve("ann", "")
        again = asyncio.create_task(supply.obtain([TWO]))
        await asyncio.sleep(0.05)
        await upload(supply, TWO)
        assert await again

    asyncio.run(story())


def test_who_leaves_is_noticed_and_who_comes_back_is_asked_again(supply: Supply, scheduler: Clients) -> None:
    """A client that reconnects knows nothing of what it was asked before; one that is gone is an error."""

    async def story() -> None:
        await supply.serve("ann", "")
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await asyncio.sleep(0.05)
        scheduler.clients["ann"] = SimpleNamespace()
        await asyncio.sleep(0.1)
        assert scheduler.sent == [("ann", ["one"])] * 2
        await supply.serve("ben", "")
        del scheduler.clients["ann"]
        await asyncio.sleep(0.1)
        assert scheduler.sent[-1] == ("ben", ["one"])
        del scheduler.clients["ben"]
        with pytest.raises(LayerError, match="not connected any more"):
            await waiting

    asyncio.run(story())


def test_a_sync_that_fails_leaves_who_gives_what_as_it_was(supply: Supply) -> None:
    """Late nodes of the target that is still want its wheels; what a target does not have is forgotten."""

    async def story() -> None:
        await supply.serve("ann", "")
        await supply.handle_offer([], [])
        supply._ask([ONE])
        await upload(supply, ONE)
        before = await supply.serve("ben", "memory://elsewhere")
        assert not supply.parcels
        await supply.serve_again(before)
        assert (supply.client, supply.store, list(supply.parcels)) == ("ann", "", [ONE])
        environment = Environment.of(this_interpreter(), [Distribution("one", "2.0")])
        await supply.keep(Target(environment, Policy()))
        assert not supply.parcels
        assert "failure" in await supply.handle_get(parcel_to_wire(parcel(ONE)), 0)

    asyncio.run(story())


def test_what_is_no_part_of_a_blob_is_refused(supply: Supply) -> None:
    """Also what nobody has announced, and what has other bytes."""

    async def story() -> None:
        await supply.serve("ann", "")
        supply._ask([ONE])
        wire = parcel_to_wire(parcel(ONE))
        assert "given up" in (await supply.handle_put(wire, 0, b"a"))["failure"]
        await supply.handle_offer([wire], [])
        assert "bytes" in (await supply.handle_put(wire, 0, "text"))["failure"]
        assert "does not have the bytes" in (await supply.handle_put(wire, 0, b"b"))["failure"]
        with pytest.raises(MessageError):
            await supply.handle_get({"filename": "../x"}, 0)

    asyncio.run(story())


def test_what_nobody_asked_for_is_not_kept(supply: Supply) -> None:
    """Offers, parts and refusals out of the blue leave nothing behind; the client is told that all is here."""

    async def story() -> None:
        await supply.serve("ann", "")
        wire = parcel_to_wire(parcel(ONE))
        assert await supply.handle_offer([wire], []) == {"offsets": [1]}
        assert await supply.handle_put(wire, 0, b"a") == {"offset": 1}
        await refuse(supply, ONE, "out of the blue")
        assert supply.timer is None
        assert [supply.parcels, supply.writing, supply.failed, supply.blobs._partial] == [{}] * 4

    asyncio.run(story())


def test_a_client_that_is_gone_leaves_nobody_waiting(supply: Supply, scheduler: Clients) -> None:
    """Whoever waits for anything of it is told, and nothing is remembered that nobody will answer."""

    async def story() -> None:
        await supply.serve("ann", "")
        waiting = asyncio.create_task(supply.obtain([ONE, TWO]))
        await asyncio.sleep(0.05)
        scheduler.clients.pop("ann")
        for asked in (waiting, supply.obtain([ONE, TWO])):
            with pytest.raises(LayerError, match="not connected any more"):
                await asked
        await asyncio.sleep(0)
        assert [supply.asked, supply.whom] == [{}, {}]

    asyncio.run(story())
