"""The scheduler asks clients for wheels: nobody waits for ever, and everybody is told why."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import pytest

from dask_pkgsync.adapters.inquiries import Inquiries
from dask_pkgsync.adapters.supplier import Supplier
from dask_pkgsync.adapters.supply import Supply
from dask_pkgsync.adapters.topic import WANTED
from dask_pkgsync.adapters.wants import Want
from dask_pkgsync.core.environment import Distribution, Environment, FromModules
from dask_pkgsync.core.errors import LayerError, MessageError, WheelError
from dask_pkgsync.core.messages import Target
from dask_pkgsync.core.parcels import (
    Delivery,
    Parcel,
    Request,
    delivery_from_wire,
    delivery_to_wire,
    parcel_to_wire,
    requests_to_wire,
    wheel_error_to_wire,
)
from dask_pkgsync.core.policy import Policy
from dask_pkgsync.shell.local import Snapshot
from dask_pkgsync.shell.scan import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ONE, TWO = Request("one", "1.0", "c0ffee"), Request("two", "1.0", "c0ffee")
DIGEST = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # of b"a"


def parcel(request: Request) -> Parcel:
    """Return a wheel of one byte."""
    return Parcel(request, f"{request.name}-1.0-py3-none-any.whl", DIGEST, 1)


def want(client: str, *requests: Request, store: str = "") -> Want:
    """Return what a client has asked for that has these, and nothing else."""
    there = [Distribution(one.name, one.version, FromModules("", one.identity)) for one in requests]
    environment = Environment.of(this_interpreter(), there)
    return Want(client, Target(environment, Policy(), store=store, owner=f"{client}@laptop"))


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that other tasks bring about."""
    while not condition():  # noqa: ASYNC110  # whatever it is, it sets no event
        await asyncio.sleep(0.005)


class Clients:
    """A scheduler as far as it knows clients: the seam through which they are asked."""

    def __init__(self, *wants: Want) -> None:
        self.clients: dict[str, object] = {one.client: SimpleNamespace() for one in wants}
        self.wants = list(wants)
        self.sent: list[tuple[str, list[str]]] = []
        self.told: list[dict[str, Any]] = []

    def client_send(self, client: str, message: dict[str, Any]) -> None:
        assert message["op"] == WANTED
        self.sent.append((client, [name for name, _, _ in message["requests"]]))

    def owners(self, request: Request) -> list[Want]:
        return [one for one in self.wants if one.has(request)]

    def supply(self, patience: float = 60.0) -> Supply:
        """Return the supply of this scheduler, which looks at its clients often."""
        return Supply(Inquiries(self, self.owners, self.told.append, patience=patience, pause=0.01), self.told.append)  # type: ignore[arg-type]


ANN, BEN = want("ann", ONE, TWO), want("ben", ONE, TWO)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path) -> Iterator[None]:
    with dask.config.set({"pkgsync.cache-directory": str(tmp_path)}):
        yield


@pytest.fixture
def scheduler() -> Clients:
    """Return a scheduler with two clients, who have the same."""
    return Clients(ANN, BEN)


@pytest.fixture
def supply(scheduler: Clients) -> Supply:
    """Return the supply of that scheduler."""
    return scheduler.supply()


async def upload(supply: Supply, request: Request, store: str = "") -> None:
    """Do what a client does, which uses a store or none."""
    wire = parcel_to_wire(parcel(request))
    if (await supply.handle_offer([wire], [], store))["offsets"] == [0]:
        assert await supply.handle_put(wire, 0, b"a") == {"offset": 1}


async def refuse(supply: Supply, request: Request, problem: str) -> None:
    """Do what a client does that cannot pack something."""
    wire = wheel_error_to_wire(WheelError(request.name, problem, advice="Mend it.", last_words="boom"))
    await supply.handle_offer([], [[requests_to_wire([request])[0], wire]])


def test_nodes_that_ask_for_the_same_make_one_request(supply: Supply, scheduler: Clients) -> None:
    """However many wait, the client is asked once; later nodes get what is there."""

    async def story() -> None:
        await supply.serve(ANN)
        waiting = [asyncio.create_task(supply.obtain([ONE, TWO])) for _ in range(5)]
        await until(lambda: scheduler.sent)
        await upload(supply, TWO)
        await upload(supply, ONE)
        for task in waiting:
            assert await task == [Delivery(parcel(ONE)), Delivery(parcel(TWO))]
        assert await supply.obtain([ONE]) == [Delivery(parcel(ONE))]
        assert (await supply.handle_get(parcel_to_wire(parcel(ONE)), 0))["data"] == b"a"
        assert scheduler.sent == [("ann", ["one", "two"])]

    asyncio.run(story())


def test_a_refusal_of_one_is_told_while_another_is_awaited(supply: Supply, scheduler: Clients) -> None:
    """At once; and for the time of a sync it is not asked for again."""

    async def story() -> None:
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.handle_parcels(requests_to_wire([ONE, TWO])))
        await until(lambda: scheduler.sent)
        await refuse(supply, TWO, "does not build")
        failure = (await waiting)["failure"]
        assert failure["problem"] == "two: does not build"
        assert failure["last-words"] == "boom"
        with pytest.raises(LayerError, match="does not build"):
            await supply.obtain([TWO])
        assert len(scheduler.sent) == 1
        await upload(supply, ONE)  # which was asked for, too
        assert await supply.obtain([ONE])
        await supply.serve(ANN)
        again = asyncio.create_task(supply.obtain([TWO]))
        await until(lambda: len(scheduler.sent) == 2)
        await upload(supply, TWO)
        assert await again

    asyncio.run(story())


def test_who_leaves_is_noticed_and_who_comes_back_is_asked_again(supply: Supply, scheduler: Clients) -> None:
    """A client that reconnects knows nothing of what it was asked before; when nobody is left that is an error."""

    async def story() -> None:
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: scheduler.sent)
        scheduler.clients["ann"] = SimpleNamespace(back=True)
        await until(lambda: len(scheduler.sent) == 2)
        del scheduler.clients["ann"]
        await until(lambda: len(scheduler.sent) == 3)
        assert scheduler.sent == [("ann", ["one"]), ("ann", ["one"]), ("ben", ["one"])]
        del scheduler.clients["ben"]
        with pytest.raises(LayerError, match="from ann@laptop and ben@laptop: not connected any more"):
            await waiting

    asyncio.run(story())


def test_a_sync_that_fails_leaves_who_gives_what_as_it_was(supply: Supply, scheduler: Clients) -> None:
    """Late nodes of the target that is still want its wheels; what a target does not have is forgotten."""

    async def story() -> None:
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: scheduler.sent)
        await upload(supply, ONE)
        await waiting
        before = await supply.serve(BEN)
        another = asyncio.create_task(supply.obtain([TWO]))
        await until(lambda: len(scheduler.sent) == 2)
        await upload(supply, TWO)
        await another
        await supply.serve_again(before)
        assert (supply.inquiries.newest, list(supply.deliveries)) == (ANN, [ONE])
        environment = Environment.of(this_interpreter(), [Distribution("one", "2.0")])
        await supply.keep(Target(environment, Policy()))
        assert not supply.deliveries
        assert "failure" in await supply.handle_get(parcel_to_wire(parcel(ONE)), 0)

    asyncio.run(story())


def test_what_is_no_part_of_a_blob_is_refused(supply: Supply, scheduler: Clients) -> None:
    """Also what nobody has announced, and what has other bytes."""

    async def story() -> None:
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: scheduler.sent)
        wire = parcel_to_wire(parcel(ONE))
        assert "given up" in (await supply.handle_put(wire, 0, b"a"))["failure"]
        await supply.handle_offer([wire], [])
        assert "bytes" in (await supply.handle_put(wire, 0, "text"))["failure"]
        assert "does not have the bytes" in (await supply.handle_put(wire, 0, b"b"))["failure"]
        with pytest.raises(MessageError):
            await supply.handle_get({"filename": "../x"}, 0)
        assert not waiting.done()

    asyncio.run(story())


def test_what_nobody_asked_for_is_not_kept(supply: Supply) -> None:
    """Offers, parts, refusals and signs out of the blue leave nothing behind; the client is told that all is here."""

    async def story() -> None:
        await supply.serve(ANN)
        wire = parcel_to_wire(parcel(ONE))
        assert await supply.handle_offer([wire], []) == {"offsets": [1]}
        assert await supply.handle_put(wire, 0, b"a") == {"offset": 1}
        await refuse(supply, ONE, "out of the blue")
        await supply.handle_at_work("nobody")
        assert supply.timer is supply.inquiries.timer is None
        assert [supply.deliveries, supply.writing, supply.failed, supply.blobs._partial] == [{}] * 4
        assert [supply.inquiries.open, supply.inquiries.silent] == [{}] * 2

    asyncio.run(story())


def test_a_client_that_is_gone_leaves_nobody_waiting(supply: Supply, scheduler: Clients) -> None:
    """Whoever waits for anything of it is told, and nothing is remembered that nobody will answer."""

    async def story() -> None:
        scheduler.wants = [ANN]
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.obtain([ONE, TWO]))
        await until(lambda: scheduler.sent)
        scheduler.clients.pop("ann")
        for asked in (waiting, supply.obtain([ONE, TWO])):
            with pytest.raises(LayerError, match="from ann@laptop: not connected any more"):
                await asked
        assert supply.inquiries.open == {}

    asyncio.run(story())


def test_who_is_gone_takes_nothing_of_others_along(supply: Supply, scheduler: Clients) -> None:
    """Only what that client was asked for fails; what another one gives is still awaited."""

    async def story() -> None:
        scheduler.wants = [want("ann", ONE), want("ben", TWO)]
        bens = asyncio.create_task(supply.obtain([TWO]))
        anns = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: len(scheduler.sent) == 2)
        del scheduler.clients["ann"]
        with pytest.raises(LayerError, match=r"one 1\.0 was only to be had from ann@laptop"):
            await anns
        await upload(supply, TWO)
        assert await bens

    asyncio.run(story())


STORE = "memory://bens"


def test_what_comes_through_a_store_is_told_for_each_wheel(supply: Supply, scheduler: Clients) -> None:
    """Ann sends hers to the scheduler, and Ben, who syncs, puts his into a store: nodes are told which is where."""

    async def story() -> None:
        ann, ben = want("ann", ONE), want("ben", TWO, store=STORE)
        scheduler.wants = [ann]
        await supply.serve(ben)
        waiting = asyncio.create_task(supply.handle_parcels(requests_to_wire([ONE, TWO])))
        await until(lambda: len(scheduler.sent) == 2)
        assert sorted(scheduler.sent) == [("ann", ["one"]), ("ben", ["two"])]
        await upload(supply, TWO, STORE)
        await upload(supply, ONE)
        found = [delivery_from_wire(one) for one in (await waiting)["deliveries"]]
        assert found == [Delivery(parcel(ONE)), Delivery(parcel(TWO), STORE)]
        assert (await supply.handle_get(parcel_to_wire(parcel(ONE)), 0))["data"] == b"a"
        assert "failure" in await supply.handle_get(parcel_to_wire(parcel(TWO)), 0)  # it never was here

    asyncio.run(story())


@pytest.mark.parametrize("used", ["", "memory://somewhere-else"])
def test_a_store_that_a_client_has_not_said_it_uses_does_not_count(
    used: str, supply: Supply, scheduler: Clients
) -> None:
    """Nodes read from the URL in the client's target; what was not put there is sent to the scheduler."""

    async def story() -> None:
        await supply.serve(want("ann", ONE, store=STORE))
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: scheduler.sent)
        await upload(supply, ONE, used)
        assert await waiting == [Delivery(parcel(ONE))]
        assert (await supply.handle_get(parcel_to_wire(parcel(ONE)), 0))["data"] == b"a"

    asyncio.run(story())


def test_the_store_of_the_next_one_is_not_that_of_others(supply: Supply, scheduler: Clients) -> None:
    """What lies on the scheduler stays known. What lies in a store is asked for again, while somebody has it."""

    async def story() -> None:
        ann, ben = want("ann", ONE), want("ben", TWO, store=STORE)
        scheduler.wants = [ann, ben]
        await supply.serve(ben)
        waiting = asyncio.create_task(supply.obtain([ONE, TWO]))
        await until(lambda: len(scheduler.sent) == 2)
        await upload(supply, TWO, STORE)
        await upload(supply, ONE)
        both = await waiting
        del scheduler.clients["ben"]
        scheduler.wants = [ann]
        await supply.serve(ann)
        assert await supply.obtain([ONE, TWO]) == both  # it may still be there
        scheduler.clients["ben"] = SimpleNamespace()
        scheduler.wants = [ann, ben]
        await supply.serve(ann)
        assert list(supply.deliveries.values()) == [Delivery(parcel(ONE))]

    asyncio.run(story())


def test_who_is_connected_and_gives_no_sign_is_given_up_on(scheduler: Clients) -> None:
    """Another client that has the same is asked first. Then whoever waits reads who does not answer, and what to do."""
    supply = scheduler.supply(patience=0.1)

    async def story() -> None:
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: len(scheduler.sent) == 2)
        assert scheduler.sent == [("ann", ["one"]), ("ben", ["one"])]
        with pytest.raises(LayerError, match="from ann@laptop and ben@laptop: connected, but no answer") as no:
            await waiting
        assert "or end it; then sync again" in no.value.advice
        assert [(event["action"], event["owner"]) for event in scheduler.told] == [
            ("no-answer", "ann@laptop"),
            ("no-answer", "ben@laptop"),
        ]
        assert supply.inquiries.open == {}

    asyncio.run(story())


def test_who_gave_no_sign_is_asked_again_when_there_is_one(scheduler: Clients) -> None:
    """Nobody waits for it a second time before it is there again: it says so, syncs, or has another connection."""
    supply = scheduler.supply(patience=0.05)
    scheduler.wants = [ANN]

    async def given_up() -> None:
        with pytest.raises(LayerError, match="from ann@laptop: connected, but no answer"):
            await supply.obtain([ONE])

    async def story() -> None:
        await supply.serve(ANN)
        for number, is_there_again in enumerate(
            (
                lambda: supply.handle_at_work("ann"),
                lambda: supply.serve(ANN),
                lambda: asyncio.to_thread(scheduler.clients.update, ann=SimpleNamespace(number=1)),
            ),
            start=1,
        ):
            await given_up()
            await given_up()
            assert len(scheduler.sent) == number
            await is_there_again()
        supply.inquiries.patience = 60.0  # whoever answers now is in time, however busy this machine is
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: len(scheduler.sent) == 4)
        await upload(supply, ONE)
        assert await waiting

    asyncio.run(story())


@pytest.mark.parametrize("uploads", [False, True], ids=["says so", "uploads"])
def test_who_is_at_work_is_waited_for_while_another_is_given_up_on(uploads: bool, scheduler: Clients) -> None:
    """Signs of one client, or parts of a wheel, count for what that one was asked for, and for nothing else."""
    supply = scheduler.supply(patience=1.0)  # a part is written aside, and may take a while where the disk is busy
    scheduler.wants = [want("ann", ONE), want("ben", TWO)]
    wire = parcel_to_wire(replace(parcel(TWO), size=1_000_000))

    async def story() -> None:
        bens = asyncio.create_task(supply.obtain([TWO]))
        await until(lambda: scheduler.sent)
        await supply.handle_offer([wire], [])
        anns = asyncio.create_task(supply.obtain([ONE]))
        offset = 0
        while not anns.done():
            if uploads:
                offset = (await supply.handle_put(wire, offset, b"a"))["offset"]
            else:
                await supply.handle_at_work("ben")
            await asyncio.sleep(0.005)
        with pytest.raises(LayerError, match=r"one 1\.0 is only to be had from ann@laptop: connected"):
            await anns
        assert not bens.done()
        await upload(supply, TWO)
        assert await bens

    asyncio.run(story())


def test_of_two_wheels_that_come_at_once_one_counts(supply: Supply, scheduler: Clients) -> None:
    """One that was given up on may send all the same, and other bytes: nodes are served what they are told."""

    async def story() -> None:
        wires = [parcel_to_wire(replace(parcel(ONE), digest=sha256(data).hexdigest())) for data in (b"a", b"b")]
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.obtain([ONE]))
        await until(lambda: scheduler.sent)
        await supply.handle_offer(wires, [])
        await asyncio.gather(
            *(supply.handle_put(wire, 0, data) for wire, data in zip(wires, (b"a", b"b"), strict=True))
        )
        (told,) = await waiting
        assert "data" in await supply.handle_get(parcel_to_wire(told.parcel), 0)
        leased = [supply.blobs.cache.is_leased(wire["digest"], 3600) for wire in wires]
        assert leased == [wire["digest"] == told.parcel.digest for wire in wires]

    asyncio.run(story())


def test_what_nobody_is_known_to_have_the_newest_client_is_asked_for(supply: Supply, scheduler: Clients) -> None:
    """It says itself what there is instead: of an extra requirement that the index does not give, for example."""

    async def story() -> None:
        await supply.serve(ANN)
        extra = Request("three", "1.0")
        waiting = asyncio.create_task(supply.obtain([extra]))
        await until(lambda: scheduler.sent)
        assert scheduler.sent == [("ann", ["three"])]
        await refuse(supply, extra, "this client does not have it")
        with pytest.raises(LayerError, match="this client does not have it"):
            await waiting

    asyncio.run(story())


class SlowToBuild(Supplier):
    """A client whose build takes until it may end."""

    def __init__(self, supply: Supply) -> None:
        self.signs_given = 0

        async def pkgsync_at_work(client: str) -> None:
            self.signs_given += 1
            if self.signs_given % 2:
                raise OSError("this connection breaks now and then")
            await supply.handle_at_work(client)

        scheduler = SimpleNamespace(pkgsync_at_work=pkgsync_at_work, pkgsync_offer=supply.handle_offer)
        client: Any = SimpleNamespace(id="ann", status="running", scheduler=scheduler, _stream_handlers={})
        super().__init__(client, Snapshot(ANN.target.environment), sign=0.01)
        self.may_end = threading.Event()

    def _pack(self, request: Request) -> tuple[Parcel, Path]:
        self.may_end.wait()
        raise WheelError(request.name, "built at last")


def test_a_build_may_take_far_longer_than_a_client_may_be_silent(scheduler: Clients) -> None:
    """A client gives signs while it builds, and for what is queued; they end with the work."""
    supply = scheduler.supply(patience=0.1)

    async def story() -> None:
        supplier = SlowToBuild(supply)
        supplier.builds = asyncio.Semaphore(1)
        await supply.serve(ANN)
        waiting = asyncio.create_task(supply.obtain([ONE, TWO]))
        await until(lambda: scheduler.sent)
        supplier.handle_wanted(requests_to_wire([ONE, TWO]))
        await until(lambda: supplier.signs_given > 50)
        assert not waiting.done()
        supplier.may_end.set()
        with pytest.raises(LayerError, match="built at last"):
            await waiting
        assert supplier.signs is not None
        await supplier.signs
        assert not supplier.at_work
        assert scheduler.sent == [("ann", ["one", "two"])]

    asyncio.run(story())


def test_where_a_wheel_is_is_checked() -> None:
    """A node reads from what is a URL on one line, or from the scheduler."""
    for delivery in (Delivery(parcel(ONE)), Delivery(parcel(ONE), STORE)):
        assert delivery_from_wire(delivery_to_wire(delivery)) == delivery
    wire = delivery_to_wire(Delivery(parcel(ONE), STORE))
    for wrong in ([wire[0]], [{**wire[0], "size": 0}, ""], [wire[0], None], [wire[0], "memory://a\nb"]):
        with pytest.raises(MessageError):
            delivery_from_wire(wrong)
