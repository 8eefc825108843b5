"""The scheduler asks clients for wheels: nobody waits for ever, and everybody is told why."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import fsspec
import pytest

from dask_pkgsync.client.blob_provider import BlobProvider
from dask_pkgsync.model.blobs import (
    Blob,
    BlobLocation,
    BlobRequest,
    blob_to_wire,
    location_from_wire,
    location_to_wire,
    request_for_conda,
    requests_to_wire,
    wheel_error_to_wire,
)
from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.origin import FromModules
from dask_pkgsync.model.errors import MessageError, WheelError
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.target import Target
from dask_pkgsync.model.wire.protocol import WANTED
from dask_pkgsync.node.blob_fetcher import BlobFetcher
from dask_pkgsync.process.node_settings import NodeSettings
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.snapshot import Snapshot
from dask_pkgsync.scheduler.blobs.providers import BlobProviders
from dask_pkgsync.scheduler.blobs.service import BlobService
from dask_pkgsync.scheduler.clients.claims import Claim
from dask_pkgsync.wheels.fsspec_store import put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ONE, TWO = BlobRequest("one", "1.0", "c0ffee"), BlobRequest("two", "1.0", "c0ffee")
DIGEST = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # of b"a"


def blob(request: BlobRequest) -> Blob:
    """Return a wheel of one byte."""
    return Blob(request, f"{request.name}-1.0-py3-none-any.whl", DIGEST, 1)


def want(client: str, *requests: BlobRequest, store: str = "") -> Claim:
    """Return what a client has asked for that has these, and nothing else."""
    there = [Distribution(one.name, one.version, FromModules("", one.identity)) for one in requests]
    environment = Environment.of(this_interpreter(), there)
    return Claim(client, Target(environment, Policy(), store=store, owner=f"{client}@laptop"))


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that other tasks bring about."""
    while not condition():  # noqa: ASYNC110  # whatever it is, it sets no event
        await asyncio.sleep(0.005)


class Clients:
    """A scheduler as far as it knows clients: the seam through which they are asked."""

    def __init__(self, *claims: Claim) -> None:
        self.clients: dict[str, object] = {one.client: SimpleNamespace() for one in claims}
        self.claims = list(claims)
        self.sent: list[tuple[str, list[str]]] = []
        self.told: list[dict[str, Any]] = []

    def client_send(self, client: str, message: dict[str, Any]) -> None:
        assert message["op"] == WANTED
        self.sent.append((client, [one["name"] for one in message["requests"]]))

    def owners(self, request: BlobRequest) -> list[Claim]:
        return [one for one in self.claims if one.has(request)]

    def blob_service(self, patience: float = 60.0) -> BlobService:
        """Return the supply of this scheduler, which looks at its clients often."""
        return BlobService(
            BlobProviders(self, self.owners, self.told.append, patience=patience, pause=0.01), self.told.append
        )  # type: ignore[arg-type]


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
def blob_service(scheduler: Clients) -> BlobService:
    """Return the supply of that scheduler."""
    return scheduler.blob_service()


async def upload(blob_service: BlobService, request: BlobRequest, store: str = "") -> None:
    """Do what a client does, which uses a store or none."""
    wire = blob_to_wire(blob(request))
    if (await blob_service.handle_offer([wire], [], store))["offsets"] == [0]:
        assert await blob_service.handle_put(wire, 0, b"a") == {"offset": 1}


async def refuse(blob_service: BlobService, request: BlobRequest, problem: str) -> None:
    """Do what a client does that cannot pack something."""
    wire = wheel_error_to_wire(WheelError(request.name, problem, advice="Mend it.", last_words="boom"))
    await blob_service.handle_offer([], [{"request": requests_to_wire([request])[0], "error": wire}])


def test_nodes_that_ask_for_the_same_make_one_request(blob_service: BlobService, scheduler: Clients) -> None:
    """However many wait, the client is asked once; later nodes get what is there."""

    async def story() -> None:
        await blob_service.serve(ANN)
        waiting = [asyncio.create_task(blob_service.obtain([ONE, TWO])) for _ in range(5)]
        await until(lambda: scheduler.sent)
        await upload(blob_service, TWO)
        await upload(blob_service, ONE)
        for task in waiting:
            assert await task == [BlobLocation(blob(ONE)), BlobLocation(blob(TWO))]
        assert await blob_service.obtain([ONE]) == [BlobLocation(blob(ONE))]
        assert (await blob_service.handle_get(blob_to_wire(blob(ONE)), 0))["data"] == b"a"
        assert scheduler.sent == [("ann", ["one", "two"])]

    asyncio.run(story())


def test_a_refusal_of_one_is_told_while_another_is_awaited(blob_service: BlobService, scheduler: Clients) -> None:
    """At once; and for the time of a sync it is not asked for again."""

    async def story() -> None:
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.handle_blobs(requests_to_wire([ONE, TWO])))
        await until(lambda: scheduler.sent)
        await refuse(blob_service, TWO, "does not build")
        failure = (await waiting)["failure"]
        assert failure["problem"] == "two: does not build"
        assert failure["last-words"] == "boom"
        with pytest.raises(LayerError, match="does not build"):
            await blob_service.obtain([TWO])
        assert len(scheduler.sent) == 1
        await upload(blob_service, ONE)  # which was asked for, too
        assert await blob_service.obtain([ONE])
        await blob_service.serve(ANN)
        again = asyncio.create_task(blob_service.obtain([TWO]))
        await until(lambda: len(scheduler.sent) == 2)
        await upload(blob_service, TWO)
        assert await again

    asyncio.run(story())


def test_who_leaves_is_noticed_and_who_comes_back_is_asked_again(blob_service: BlobService, scheduler: Clients) -> None:
    """A client that reconnects knows nothing of what it was asked before; when nobody is left that is an error."""

    async def story() -> None:
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.obtain([ONE]))
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


def test_a_sync_that_fails_leaves_who_gives_what_as_it_was(blob_service: BlobService, scheduler: Clients) -> None:
    """Late nodes of the target that is still want its wheels; what a target does not have is forgotten."""

    async def story() -> None:
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.obtain([ONE]))
        await until(lambda: scheduler.sent)
        await upload(blob_service, ONE)
        await waiting
        before = await blob_service.serve(BEN)
        another = asyncio.create_task(blob_service.obtain([TWO]))
        await until(lambda: len(scheduler.sent) == 2)
        await upload(blob_service, TWO)
        await another
        await blob_service.serve_again(before)
        assert (blob_service.providers.newest, list(blob_service.locations)) == (ANN, [ONE])
        environment = Environment.of(this_interpreter(), [Distribution("one", "2.0")])
        await blob_service.keep(Target(environment, Policy()))
        assert not blob_service.locations
        assert "failure" in await blob_service.handle_get(blob_to_wire(blob(ONE)), 0)

    asyncio.run(story())


def test_what_is_no_part_of_a_blob_is_refused(blob_service: BlobService, scheduler: Clients) -> None:
    """Also what nobody has announced, and what has other bytes."""

    async def story() -> None:
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.obtain([ONE]))
        await until(lambda: scheduler.sent)
        wire = blob_to_wire(blob(ONE))
        assert "given up" in (await blob_service.handle_put(wire, 0, b"a"))["failure"]
        await blob_service.handle_offer([wire], [])
        assert "bytes" in (await blob_service.handle_put(wire, 0, "text"))["failure"]
        assert "does not have the bytes" in (await blob_service.handle_put(wire, 0, b"b"))["failure"]
        with pytest.raises(MessageError):
            await blob_service.handle_get({"filename": "../x"}, 0)
        assert not waiting.done()

    asyncio.run(story())


def test_what_nobody_asked_for_is_not_kept(blob_service: BlobService) -> None:
    """Offers, parts, refusals and signs out of the blue leave nothing behind; the client is told that all is here."""

    async def story() -> None:
        await blob_service.serve(ANN)
        wire = blob_to_wire(blob(ONE))
        assert await blob_service.handle_offer([wire], []) == {"offsets": [1]}
        assert await blob_service.handle_put(wire, 0, b"a") == {"offset": 1}
        await refuse(blob_service, ONE, "out of the blue")
        await blob_service.handle_at_work("nobody")
        assert blob_service.timer is blob_service.providers.timer is None
        assert [blob_service.locations, blob_service.writing, blob_service.failed, blob_service.blobs._partial] == [
            {}
        ] * 4
        assert [blob_service.providers.open, blob_service.providers.silent] == [{}] * 2

    asyncio.run(story())


def test_a_client_that_is_gone_leaves_nobody_waiting(blob_service: BlobService, scheduler: Clients) -> None:
    """Whoever waits for anything of it is told, and nothing is remembered that nobody will answer."""

    async def story() -> None:
        scheduler.claims = [ANN]
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.obtain([ONE, TWO]))
        await until(lambda: scheduler.sent)
        scheduler.clients.pop("ann")
        for asked in (waiting, blob_service.obtain([ONE, TWO])):
            with pytest.raises(LayerError, match="from ann@laptop: not connected any more"):
                await asked
        assert blob_service.providers.open == {}

    asyncio.run(story())


def test_who_is_gone_takes_nothing_of_others_along(blob_service: BlobService, scheduler: Clients) -> None:
    """Only what that client was asked for fails; what another one gives is still awaited."""

    async def story() -> None:
        scheduler.claims = [want("ann", ONE), want("ben", TWO)]
        bens = asyncio.create_task(blob_service.obtain([TWO]))
        anns = asyncio.create_task(blob_service.obtain([ONE]))
        await until(lambda: len(scheduler.sent) == 2)
        del scheduler.clients["ann"]
        with pytest.raises(LayerError, match=r"one 1\.0 was only to be had from ann@laptop"):
            await anns
        await upload(blob_service, TWO)
        assert await bens

    asyncio.run(story())


STORE = "memory://bens"


def test_what_comes_through_a_store_is_told_for_each_wheel(blob_service: BlobService, scheduler: Clients) -> None:
    """Ann sends hers to the scheduler, and Ben, who syncs, puts his into a store: nodes are told which is where."""

    async def story() -> None:
        ann, ben = want("ann", ONE), want("ben", TWO, store=STORE)
        scheduler.claims = [ann]
        await blob_service.serve(ben)
        waiting = asyncio.create_task(blob_service.handle_blobs(requests_to_wire([ONE, TWO])))
        await until(lambda: len(scheduler.sent) == 2)
        assert sorted(scheduler.sent) == [("ann", ["one"]), ("ben", ["two"])]
        await upload(blob_service, TWO, STORE)
        await upload(blob_service, ONE)
        found = [location_from_wire(one) for one in (await waiting)["locations"]]
        assert found == [BlobLocation(blob(ONE)), BlobLocation(blob(TWO), STORE)]
        assert (await blob_service.handle_get(blob_to_wire(blob(ONE)), 0))["data"] == b"a"
        assert "failure" in await blob_service.handle_get(blob_to_wire(blob(TWO)), 0)  # it never was here

    asyncio.run(story())


def test_the_archive_of_a_conda_package_travels_as_a_wheel_does(scheduler: Clients) -> None:
    """It is asked of a client whose environment has it, stored, served, and forgotten with the target."""
    package = CondaPackage("libfoo", "2.1", "h1_0", sha256="a" * 64)
    asked = request_for_conda(package)
    ann, ben = want("ann", ONE), want("ben", ONE)
    environment = Environment.of(this_interpreter(), [], conda=[package])
    having = Claim("ben", replace(ben.target, environment=environment))
    scheduler.claims = [ann, having]
    blob_service = scheduler.blob_service()

    async def story() -> None:
        await blob_service.serve(ann)
        waiting = asyncio.create_task(blob_service.handle_blobs(requests_to_wire([asked])))
        await until(lambda: scheduler.sent)
        assert scheduler.sent == [("ben", ["libfoo"])]
        archive = Blob(asked, "libfoo-2.1-h1_0.conda", DIGEST, 1)
        assert (await blob_service.handle_offer([blob_to_wire(archive)], []))["offsets"] == [0]
        assert await blob_service.handle_put(blob_to_wire(archive), 0, b"a") == {"offset": 1}
        (found,) = (await waiting)["locations"]
        assert location_from_wire(found) == BlobLocation(archive)
        assert (await blob_service.handle_get(blob_to_wire(archive), 0))["data"] == b"a"
        await blob_service.keep(having.target)
        assert set(blob_service.locations) == {asked}
        await blob_service.keep(ann.target)
        assert not blob_service.locations

    asyncio.run(story())


@pytest.mark.parametrize("used", ["", "memory://somewhere-else"])
def test_a_store_that_a_client_has_not_said_it_uses_does_not_count(
    used: str, blob_service: BlobService, scheduler: Clients
) -> None:
    """Nodes read from the URL in the client's target; what was not put there is sent to the scheduler."""

    async def story() -> None:
        await blob_service.serve(want("ann", ONE, store=STORE))
        waiting = asyncio.create_task(blob_service.obtain([ONE]))
        await until(lambda: scheduler.sent)
        await upload(blob_service, ONE, used)
        assert await waiting == [BlobLocation(blob(ONE))]
        assert (await blob_service.handle_get(blob_to_wire(blob(ONE)), 0))["data"] == b"a"

    asyncio.run(story())


def test_the_store_of_the_next_one_is_not_that_of_others(blob_service: BlobService, scheduler: Clients) -> None:
    """What lies on the scheduler stays known. What lies in a store is asked for again, while somebody has it."""

    async def story() -> None:
        ann, ben = want("ann", ONE), want("ben", TWO, store=STORE)
        scheduler.claims = [ann, ben]
        await blob_service.serve(ben)
        waiting = asyncio.create_task(blob_service.obtain([ONE, TWO]))
        await until(lambda: len(scheduler.sent) == 2)
        await upload(blob_service, TWO, STORE)
        await upload(blob_service, ONE)
        both = await waiting
        del scheduler.clients["ben"]
        scheduler.claims = [ann]
        await blob_service.serve(ann)
        assert await blob_service.obtain([ONE, TWO]) == both  # it may still be there
        scheduler.clients["ben"] = SimpleNamespace()
        scheduler.claims = [ann, ben]
        await blob_service.serve(ann)
        assert list(blob_service.locations.values()) == [BlobLocation(blob(ONE))]

    asyncio.run(story())


@pytest.mark.parametrize("node", ["a worker", "the scheduler"])
def test_what_was_removed_from_a_store_is_put_there_again(
    node: str, blob_service: BlobService, scheduler: Clients, tmp_path: Path
) -> None:
    """As a store keeps wheels for a time only: the node that misses one has the client asked again."""
    (tmp_path / "bytes").write_bytes(b"a")
    store = f"memory://{tmp_path.name}"

    async def story() -> None:
        scheduler.claims = [want("ben", TWO, store=store)]
        await blob_service.serve(scheduler.claims[0])
        waiting = asyncio.create_task(blob_service.obtain([TWO]))
        await until(lambda: len(scheduler.sent) == 1)
        await upload(blob_service, TWO, store)  # and somebody removes it
        await waiting
        asked: Any = SimpleNamespace(
            scheduler=SimpleNamespace(pkgsync_blobs=blob_service.handle_blobs), address="tcp://127.0.0.1:1"
        )
        settings = NodeSettings(str(tmp_path / "node"))
        fetch = blob_service.own_fetch() if node == "the scheduler" else BlobFetcher(asked, settings, 60)
        fetching = asyncio.create_task(asyncio.to_thread(fetch, [TWO]))
        await until(lambda: len(scheduler.sent) == 2 or fetching.done())
        put(store, blob(TWO), tmp_path / "bytes", keep=0)
        await upload(blob_service, TWO, store)
        path, _ = (await fetching)[TWO]
        assert path.read_bytes() == b"a"

    asyncio.run(story())
    fsspec.filesystem("memory").store.clear()


def test_who_is_connected_and_gives_no_sign_is_given_up_on(scheduler: Clients) -> None:
    """Another client that has the same is asked first. Then whoever waits reads who does not answer, and what to do."""
    blob_service = scheduler.blob_service(patience=0.1)

    async def story() -> None:
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.obtain([ONE]))
        await until(lambda: len(scheduler.sent) == 2)
        assert scheduler.sent == [("ann", ["one"]), ("ben", ["one"])]
        with pytest.raises(LayerError, match="from ann@laptop and ben@laptop: connected, but no answer") as no:
            await waiting
        assert "or end it; then sync again" in no.value.advice
        assert [(event["action"], event["owner"]) for event in scheduler.told] == [
            ("no-answer", "ann@laptop"),
            ("no-answer", "ben@laptop"),
        ]
        assert blob_service.providers.open == {}

    asyncio.run(story())


def test_who_gave_no_sign_is_asked_again_when_there_is_one(scheduler: Clients) -> None:
    """Nobody waits for it a second time before it is there again: it says so, syncs, or has another connection."""
    blob_service = scheduler.blob_service(patience=0.05)
    scheduler.claims = [ANN]

    async def given_up() -> None:
        with pytest.raises(LayerError, match="from ann@laptop: connected, but no answer"):
            await blob_service.obtain([ONE])

    async def story() -> None:
        await blob_service.serve(ANN)
        for number, is_there_again in enumerate(
            (
                lambda: blob_service.handle_at_work("ann"),
                lambda: blob_service.serve(ANN),
                lambda: asyncio.to_thread(scheduler.clients.update, ann=SimpleNamespace(number=1)),
            ),
            start=1,
        ):
            await given_up()
            await given_up()
            assert len(scheduler.sent) == number
            await is_there_again()
        blob_service.providers.patience = 60.0  # whoever answers now is in time, however busy this machine is
        waiting = asyncio.create_task(blob_service.obtain([ONE]))
        await until(lambda: len(scheduler.sent) == 4)
        await upload(blob_service, ONE)
        assert await waiting

    asyncio.run(story())


@pytest.mark.parametrize("uploads", [False, True], ids=["says so", "uploads"])
def test_who_is_at_work_is_waited_for_while_another_is_given_up_on(uploads: bool, scheduler: Clients) -> None:
    """Signs of one client, or parts of a wheel, count for what that one was asked for, and for nothing else."""
    blob_service = scheduler.blob_service(patience=1.0)  # a part is written aside, and may take a while
    scheduler.claims = [want("ann", ONE), want("ben", TWO)]
    wire = blob_to_wire(replace(blob(TWO), size=1_000_000))

    async def story() -> None:
        bens = asyncio.create_task(blob_service.obtain([TWO]))
        await until(lambda: scheduler.sent)
        await blob_service.handle_offer([wire], [])
        anns = asyncio.create_task(blob_service.obtain([ONE]))
        offset = 0
        while not anns.done():
            if uploads:
                offset = (await blob_service.handle_put(wire, offset, b"a"))["offset"]
            else:
                await blob_service.handle_at_work("ben")
            await asyncio.sleep(0.005)
        with pytest.raises(LayerError, match=r"one 1\.0 is only to be had from ann@laptop: connected"):
            await anns
        assert not bens.done()
        await upload(blob_service, TWO)
        assert await bens

    asyncio.run(story())


def test_of_two_wheels_that_come_at_once_one_counts(blob_service: BlobService, scheduler: Clients) -> None:
    """One that was given up on may send all the same, and other bytes: nodes are served what they are told."""

    async def story() -> None:
        wires = [blob_to_wire(replace(blob(ONE), digest=sha256(data).hexdigest())) for data in (b"a", b"b")]
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.obtain([ONE]))
        await until(lambda: scheduler.sent)
        await blob_service.handle_offer(wires, [])
        await asyncio.gather(
            *(blob_service.handle_put(wire, 0, data) for wire, data in zip(wires, (b"a", b"b"), strict=True))
        )
        (told,) = await waiting
        assert "data" in await blob_service.handle_get(blob_to_wire(told.blob), 0)
        leased = [blob_service.blobs.cache.is_leased(wire["digest"], 3600) for wire in wires]
        assert leased == [wire["digest"] == told.blob.digest for wire in wires]

    asyncio.run(story())


def test_what_nobody_is_known_to_have_the_newest_client_is_asked_for(
    blob_service: BlobService, scheduler: Clients
) -> None:
    """It says itself what there is instead: of an extra requirement that the index does not give, for example."""

    async def story() -> None:
        await blob_service.serve(ANN)
        extra = BlobRequest("three", "1.0")
        waiting = asyncio.create_task(blob_service.obtain([extra]))
        await until(lambda: scheduler.sent)
        assert scheduler.sent == [("ann", ["three"])]
        await refuse(blob_service, extra, "this client does not have it")
        with pytest.raises(LayerError, match="this client does not have it"):
            await waiting

    asyncio.run(story())


class SlowToBuild(BlobProvider):
    """A client whose build takes until it may end."""

    def __init__(self, blob_service: BlobService) -> None:
        self.signs_given = 0

        async def pkgsync_at_work(client: str) -> None:
            self.signs_given += 1
            if self.signs_given % 2:
                raise OSError("this connection breaks now and then")
            await blob_service.handle_at_work(client)

        scheduler = SimpleNamespace(pkgsync_at_work=pkgsync_at_work, pkgsync_offer=blob_service.handle_offer)
        client: Any = SimpleNamespace(id="ann", status="running", scheduler=scheduler, _stream_handlers={})
        super().__init__(client, Snapshot(ANN.target.environment), sign=0.01)
        self.may_end = threading.Event()

    def _pack(self, request: BlobRequest) -> tuple[Blob, Path]:
        self.may_end.wait()
        raise WheelError(request.name, "built at last")


def test_a_build_may_take_far_longer_than_a_client_may_be_silent(scheduler: Clients) -> None:
    """A client gives signs while it builds, and for what is queued; they end with the work."""
    blob_service = scheduler.blob_service(patience=0.1)

    async def story() -> None:
        supplier = SlowToBuild(blob_service)
        supplier.builds = asyncio.Semaphore(1)
        await blob_service.serve(ANN)
        waiting = asyncio.create_task(blob_service.obtain([ONE, TWO]))
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
    for location in (BlobLocation(blob(ONE)), BlobLocation(blob(ONE), STORE)):
        assert location_from_wire(location_to_wire(location)) == location
    wire = location_to_wire(BlobLocation(blob(ONE), STORE))
    blob_wire = wire["blob"]
    for wrong in (
        {"store": STORE},
        {**wire, "blob": {**blob_wire, "size": 0}},
        {**wire, "store": None},
        [blob_wire, ""],
        {**wire, "store": "memory://a\nb"},
    ):
        with pytest.raises(MessageError):
            location_from_wire(wrong)
