"""On the scheduler: which client is asked for what only clients have, and how long it is waited for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.blobs import requests_to_wire
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.protocol import SCHEMA, WANTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from distributed import Scheduler

    from dask_pkgsync.model.blobs import BlobLocation, BlobRequest
    from dask_pkgsync.scheduler.clients.claims import Claim

PATIENCE = 30.0
"""Seconds without any sign of a client that was asked, after which it is given up on (`supplier.SIGN` says how often
there is one). What it builds may take far longer."""
PAUSE = 1.0
"""Seconds between two looks at the clients that were asked."""
AT_ONCE = 500
"""Requests that one step of the event loop passes on."""


@dataclass
class PendingBlob:
    """Something that a client was asked for."""

    answer: asyncio.Future[BlobLocation]
    claim: Claim
    """Of the client that was asked."""
    connection: object
    """Dask's state of that client: once it has come back it has another one, and knows nothing of the inquiry."""
    quiet: int = 0
    """Looks since there was a sign of it."""


class BlobProviders:
    """What is asked of clients just now; each thing of one client at a time.

    Parameters
    ----------
    scheduler : Scheduler
    owners : callable
        Returns what the clients have asked for whose environment holds something.
    log_event : callable
        Receives an event (a dictionary) for every client that is given up on.
    patience, pause : float
        See the constants.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        owners: Callable[[BlobRequest], list[Claim]],
        log_event: Callable[[dict[str, Any]], None],
        *,
        patience: float = PATIENCE,
        pause: float = PAUSE,
    ) -> None:
        self.scheduler = scheduler
        self.owners = owners
        self.log_event = log_event
        self.patience, self.pause = patience, pause
        self.newest: Claim | None = None
        """Of the client that syncs, or has synced last: it is asked first."""
        self.open: dict[BlobRequest, PendingBlob] = {}
        self.silent: dict[str, object] = {}
        """Clients that were given up on, and their connections; until there is a sign of them."""
        self.timer: asyncio.TimerHandle | None = None

    async def ask(self, requests: Sequence[BlobRequest]) -> list[BlobLocation]:
        """Return where the wheels for some requests are, once all of them are there.

        Raises
        ------
        LayerError
            As soon as one cannot be had: its clients cannot give it, are gone, or do not answer.
        """
        for request in requests:
            if request not in self.open and self.whom(request) is None:
                raise self._not_to_be_had(request)
        answers: list[asyncio.Future[BlobLocation]] = []
        for start in range(0, len(requests), AT_ONCE):
            some = requests[start : start + AT_ONCE]
            new = {request: _answer() for request in some if request not in self.open}
            answers += [new[request] if request in new else self.open[request].answer for request in some]
            self._send(new)
            await asyncio.sleep(0)
        if answers:
            await asyncio.wait(answers, return_when=asyncio.FIRST_EXCEPTION)
        return [answer.result() for answer in answers if answer.done()]  # one that failed raises, else all are done

    def whom(self, request: BlobRequest) -> Claim | None:
        """Return whom to ask for something: the newest client, or another that has it; None if nobody answers.

        What nobody is known to have (extra requirements that the index does not give) the newest one is asked for.
        """
        theirs = {claim.client: claim for claim in self.owners(request)}
        newest = self.newest
        if newest is not None and (newest.client in theirs or newest.has(request) or not theirs):
            theirs.pop(newest.client, None)
            theirs[newest.client] = newest
        there = [claim for claim in theirs.values() if self._may_answer(claim.client)]
        return there[-1] if there else None

    def _may_answer(self, client: str) -> bool:
        connection = self.scheduler.clients.get(client)
        return connection is not None and self.silent.get(client) is not connection

    def _send(self, answers: Mapping[BlobRequest, asyncio.Future[BlobLocation]]) -> None:
        """Ask for what is not known yet, or say that it is not to be had."""
        asked: dict[str, list[BlobRequest]] = {}
        for request, answer in answers.items():
            if (claim := self.whom(request)) is None:
                self.open.pop(request, None)
                _refuse(answer, self._not_to_be_had(request))
                continue
            self.open[request] = PendingBlob(answer, claim, self.scheduler.clients[claim.client])
            asked.setdefault(claim.client, []).append(request)
        for client, theirs in asked.items():
            self.scheduler.client_send(client, {"op": WANTED, "schema": SCHEMA, "requests": requests_to_wire(theirs)})
        self._look_later()

    def _look_later(self) -> None:
        if self.open and self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(self.pause, self._look)

    def _look(self) -> None:
        """Ask others instead of clients that have left, or give no sign.

        Looks are counted, and not seconds: while the scheduler itself stands still it hears nobody.
        """
        self.timer = None
        again = {}
        for request, inquiry in self.open.items():
            client = inquiry.claim.client
            inquiry.quiet += 1
            if self.scheduler.clients.get(client) is not inquiry.connection:
                again[request] = inquiry.answer
            elif inquiry.quiet * self.pause >= self.patience:
                again[request] = inquiry.answer
                if self.silent.get(client) is not inquiry.connection:
                    self.silent[client] = inquiry.connection
                    owner = inquiry.claim.target.owner
                    self.log_event({"action": "no-answer", "client": client, "owner": owner, "seconds": self.patience})
        self.silent = {name: one for name, one in self.silent.items() if self.scheduler.clients.get(name) is one}
        self._send(again)
        self._look_later()

    # -- what comes back ----------------------------------------------------------------------------------------------

    def heard_of(self, client: str) -> None:
        """Take note that a client is there, and at work."""
        self.silent.pop(client, None)
        for inquiry in self.open.values():
            if inquiry.claim.client == client:
                inquiry.quiet = 0

    def goes_on(self, request: BlobRequest) -> None:
        """Take note that something which was asked for is on its way, whoever sends it."""
        self.open[request].quiet = 0

    def store_for(self, request: BlobRequest) -> str:
        """Return the URL of the store that the client which was asked for this has said it uses; empty for none."""
        return self.open[request].claim.target.store

    def answer(self, location: BlobLocation) -> bool:
        """Let those go on that wait for this; return whether it was asked for."""
        inquiry = self.open.pop(location.blob.request, None)
        if inquiry is not None:
            inquiry.answer.set_result(location)
        return inquiry is not None

    def fail(self, request: BlobRequest, reason: LayerError) -> bool:
        """Tell those that wait for this why it cannot be had; return whether it was asked for."""
        inquiry = self.open.pop(request, None)
        if inquiry is not None:
            _refuse(inquiry.answer, reason)
        return inquiry is not None

    def _not_to_be_had(self, request: BlobRequest) -> LayerError:
        """Say who has something, and why it does not come."""
        claims = {claim.client: claim for claim in [*self.owners(request), *filter(None, [self.newest])]}
        theirs = [claim for claim in claims.values() if claim.has(request)] or list(claims.values())
        label = f"{request.name} {request.version}"
        if silent := [claim for claim in theirs if claim.client in self.scheduler.clients]:
            people = _people(silent)
            return LayerError(
                "pack",
                f"{label} is only to be had from {people}: connected, but no answer for {self.patience:g} s",
                advice=f"See that the Python process of {people} runs (it may be stopped, or its event loop blocked), "
                "or end it; then sync again.",
            )
        return LayerError(
            "pack",
            f"{label} was only to be had from {_people(theirs)}: not connected any more",
            advice="Sync again from a client that has it.",
        )


def _answer() -> asyncio.Future[BlobLocation]:
    return asyncio.get_running_loop().create_future()


def _refuse(answer: asyncio.Future[BlobLocation], reason: LayerError) -> None:
    answer.set_exception(reason)
    answer.exception()  # seen, also where nobody waits any more


def _people(claims: Iterable[Claim]) -> str:
    return " and ".join(sorted({claim.target.owner for claim in claims} - {""})) or "a client"
