"""Handshakes are checked whole: none that Dask sends is refused, and none gets through over which it would stumble."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest
from distributed import Scheduler, Worker
from distributed.core import Status
from malformed_messages import worker_handshake

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.handshake import check_worker, identity, versions_in

if TYPE_CHECKING:
    from distributed.comm import Comm


def changed(*place: str, value: Any) -> dict[str, Any]:
    """Return the handshake of a worker with another value in one place."""
    message = copy.deepcopy(worker_handshake("tcp://10.0.0.3:40331", "worker-1"))
    inner: Any = message
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return message


def test_what_a_worker_of_this_dask_says_is_well_formed() -> None:
    """The real handshake passes, with every metric and all that plugins add."""
    heard: list[dict[str, Any]] = []

    class Listening(Scheduler):
        async def add_worker(self, comm: Comm, **message: Any) -> None:
            heard.append(message)
            await super().add_worker(comm, **message)

    async def story() -> None:
        async with (
            Listening(port=0, host="127.0.0.1", dashboard_address=":0") as scheduler,
            Worker(scheduler.address, name=7, resources={"GPU": 1}, dashboard=False),
        ):
            pass

    asyncio.run(story())
    (message,) = heard
    assert identity(message, "worker") == message["address"]
    assert versions_in(message)["dask"]
    check_worker(message, Status.__members__)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("name",), ("a pool", 3)),
        (("name",), 3.5),
        (("memory_limit",), None),
        (("nanny",), "tcp://10.0.0.3:1"),
        (("metrics", "mine"), object()),
        (("metrics", "digests_total_since_heartbeat"), {("execute", "x", "seconds"): -1e-9}),
        (("metrics", "bandwidth", "workers"), {"tcp://10.0.0.4:1": (1e8, 3)}),
        (("extra",), {"anything": [object()]}),
    ],
)
def test_what_dask_allows_passes(place: tuple[str, ...], value: Any) -> None:
    """Names of other kinds, no limit, metrics of other people: none of it is our business."""
    check_worker(changed(*place, value=value), Status.__members__)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("address",), "10.0.0.3:40331"),
        (("address",), "tcp://x\n"),
        (("status",), "asleep"),
        (("name",), ["a"]),
        (("name",), (["a"],)),
        (("nthreads",), "4"),
        (("nthreads",), -1),
        (("memory_limit",), "4 GB"),
        (("pid",), 10**400),
        (("nanny",), 5),
        (("services",), 5),
        (("resources",), {"GPU": "one"}),
        (("extra",), None),
        (("metrics",), {}),
        (("metrics", "memory"), None),
        (("metrics", "spilled_bytes"), {"memory": 0}),
        (("metrics", "bandwidth", "total"), float("nan")),
        (("metrics", "bandwidth", "types"), {"int": [1.0, 0]}),
        (("metrics", "bandwidth", "types"), {"int": 1.0}),
        (("metrics", "digests_total_since_heartbeat"), {"x": "y"}),
        (("metrics", "digests_total_since_heartbeat"), {str(number): 1 for number in range(1_001)}),
    ],
)
def test_what_dask_would_stumble_over_is_refused_with_its_place(place: tuple[str, ...], value: Any) -> None:
    """Dask finds it half-way, when the worker is in some of its tables."""
    with pytest.raises(MessageError) as caught:
        check_worker(changed(*place, value=value), Status.__members__)
    assert ".".join(("handshake", *place[:2])) in caught.value.place
