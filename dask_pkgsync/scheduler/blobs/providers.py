"""The providers: which client is asked for a package that only clients have, and how long it is waited for."""

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
    from dask_pkgsync.scheduler.guest import Guest

PATIENCE = 30.0
"""Seconds without a message from a client that was asked, after which another client is asked. A client at work sends
one every `client.blob_provider.SIGN` seconds, so making a package may take far longer than this."""
PAUSE = 1.0
"""Seconds between two checks of the clients that were asked."""
BATCH = 500
"""The most requests that are sent in one step of the event loop."""


@dataclass
class PendingBlob:
    """A blob that a client was asked for, and that has not arrived."""

    answer: asyncio.Future[BlobLocation]
    """Completed when the blob has arrived, or cannot be had."""
    claim: Claim
    """The claim of the client that was asked."""
    connection: object
    """Dask's `ClientState` of that client. A client that connects again gets another one, and has lost the request."""
    silent_checks: int = 0
    """Checks since the last message from that client."""


class BlobProviders:
    """Asks clients for blobs: each blob from one client at a time, and from another one if that client does not answer.

    Parameters
    ----------
    scheduler : Scheduler
    owners : callable
        Returns the claims of the clients whose environment has the requested package.
    log_event : callable
        Receives an event (a dictionary) for every client that has not answered in time.
    patience, pause : float
        See `PATIENCE` and `PAUSE`.
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
        """The claim of the client that syncs, or synced last: it is asked first."""
        self.open: dict[BlobRequest, PendingBlob] = {}
        """The blobs that clients have been asked for, and that have not arrived."""
        self.silent: dict[str, object] = {}
        """By Dask's name, the `ClientState` of clients that have not answered in time, until their next message."""
        self.timer: asyncio.TimerHandle | None = None
        self.guests: dict[str, Guest] = {}
        """By name, those who provide wheels and are no clients of Dask's."""

    def connection(self, client: str) -> object | None:
        """Return the connection of a client or guest, another object after each time that it connects; None if none."""
        return self.guests.get(client) or self.scheduler.clients.get(client)

    def _tell(self, client: str, message: dict[str, Any]) -> None:
        if (guest := self.guests.get(client)) is not None:
            guest.send(message)
        else:
            self.scheduler.client_send(client, message)

    async def ask(self, requests: Sequence[BlobRequest]) -> list[BlobLocation]:
        """Return where the packages for some requests are, once all of them are there.

        Raises
        ------
        LayerError
            As soon as one cannot be had: its clients cannot provide it, have disconnected, or do not answer.
        """
        for request in requests:
            if request not in self.open and self.claim_to_ask(request) is None:
                raise self._unavailable(request)
        answers: list[asyncio.Future[BlobLocation]] = []
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            new = {request: _new_answer() for request in batch if request not in self.open}
            answers += [new[request] if request in new else self.open[request].answer for request in batch]
            self._send(new)
            await asyncio.sleep(0)
        if answers:
            await asyncio.wait(answers, return_when=asyncio.FIRST_EXCEPTION)
        return [answer.result() for answer in answers if answer.done()]  # a failed one raises; else all are done

    def claim_to_ask(self, request: BlobRequest) -> Claim | None:
        """Return the claim of the client to ask for a blob: the newest that has it; None if no such client answers.

        If no client is known to have it (an extra requirement that the index lacks), the newest client is asked.
        """
        candidates = {claim.client: claim for claim in self.owners(request)}
        newest = self.newest
        if newest is not None and (newest.client in candidates or newest.has(request) or not candidates):
            candidates.pop(newest.client, None)
            candidates[newest.client] = newest
        answering = [claim for claim in candidates.values() if self._may_answer(claim.client)]
        return answering[-1] if answering else None

    def _may_answer(self, client: str) -> bool:
        """Whether a client is connected, and has not left a request unanswered on this connection."""
        connection = self.connection(client)
        return connection is not None and self.silent.get(client) is not connection

    def _send(self, answers: Mapping[BlobRequest, asyncio.Future[BlobLocation]]) -> None:
        """Send each request to a client; fail those that no client can answer."""
        by_client: dict[str, list[BlobRequest]] = {}
        for request, answer in answers.items():
            if (claim := self.claim_to_ask(request)) is None:
                self.open.pop(request, None)
                _fail(answer, self._unavailable(request))
                continue
            self.open[request] = PendingBlob(answer, claim, self.connection(claim.client))
            by_client.setdefault(claim.client, []).append(request)
        for client, batch in by_client.items():
            self._tell(client, {"op": WANTED, "schema": SCHEMA, "requests": requests_to_wire(batch)})
        self._schedule_check()

    def _schedule_check(self) -> None:
        if self.open and self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(self.pause, self._check)

    def _check(self) -> None:
        """Ask other clients in place of those that have disconnected, or have been silent for too long.

        Checks are counted instead of seconds: while the scheduler's own event loop is blocked, it receives no messages.
        """
        self.timer = None
        to_ask_again = {}
        for request, pending in self.open.items():
            client = pending.claim.client
            pending.silent_checks += 1
            if self.connection(client) is not pending.connection:
                to_ask_again[request] = pending.answer
            elif pending.silent_checks * self.pause >= self.patience:
                to_ask_again[request] = pending.answer
                if self.silent.get(client) is not pending.connection:
                    self.silent[client] = pending.connection
                    owner = pending.claim.target.owner
                    self.log_event({"action": "no-answer", "client": client, "owner": owner, "seconds": self.patience})
        self.silent = {
            name: connection for name, connection in self.silent.items() if self.connection(name) is connection
        }
        self._send(to_ask_again)
        self._schedule_check()

    # -- messages from clients ----------------------------------------------------------------------------------------

    def note_message(self, client: str) -> None:
        """Note that a client has sent a message, so that it is waited for."""
        self.silent.pop(client, None)
        for pending in self.open.values():
            if pending.claim.client == client:
                pending.silent_checks = 0

    def note_progress(self, request: BlobRequest) -> None:
        """Note that a requested blob is being sent, by whichever client."""
        self.open[request].silent_checks = 0

    def store_for(self, request: BlobRequest) -> str:
        """Return the store URL in the claim of the client that was asked for a blob; empty if it uses no store."""
        return self.open[request].claim.target.store

    def answer(self, location: BlobLocation) -> bool:
        """Give a blob's location to the tasks that wait for it; return whether the blob was requested."""
        pending = self.open.pop(location.blob.request, None)
        if pending is not None:
            pending.answer.set_result(location)
        return pending is not None

    def fail(self, request: BlobRequest, reason: LayerError) -> bool:
        """Raise the reason in the tasks that wait for a blob; return whether the blob was requested."""
        pending = self.open.pop(request, None)
        if pending is not None:
            _fail(pending.answer, reason)
        return pending is not None

    def _unavailable(self, request: BlobRequest) -> LayerError:
        """Return an error that says which users have a blob, and why it does not come."""
        claims = {claim.client: claim for claim in [*self.owners(request), *filter(None, [self.newest])]}
        having = [claim for claim in claims.values() if claim.has(request)] or list(claims.values())
        label = request.label
        if silent := [claim for claim in having if self.connection(claim.client) is not None]:
            users = _users(silent)
            return LayerError(
                "pack",
                f"{label} is only to be had from {users}: connected, but no answer for {self.patience:g} s",
                advice=f"See that the Python process of {users} runs (it may be stopped, or its event loop blocked), "
                "or end it; then sync again.",
            )
        return LayerError(
            "pack",
            f"{label} was only to be had from {_users(having)}: not connected any more",
            advice="Sync again from a client that has it.",
        )


def _new_answer() -> asyncio.Future[BlobLocation]:
    return asyncio.get_running_loop().create_future()


def _fail(answer: asyncio.Future[BlobLocation], reason: LayerError) -> None:
    answer.set_exception(reason)
    answer.exception()  # marks it as retrieved, for the case that no task waits any more


def _users(claims: Iterable[Claim]) -> str:
    return " and ".join(sorted({claim.target.owner for claim in claims} - {""})) or "a client"
