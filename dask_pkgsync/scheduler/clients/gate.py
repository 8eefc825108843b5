"""The gate: judges every client and worker that registers, and refuses those whose environment does not match."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

from distributed import Status
from distributed.comm.addressing import get_address_host

from dask_pkgsync.model.comparison import compare_critical
from dask_pkgsync.model.errors import MessageError, PkgsyncError
from dask_pkgsync.model.handshake import check_worker, identity, versions_in
from dask_pkgsync.model.mismatch import EnvironmentMismatchError
from dask_pkgsync.model.policy import CRITICAL
from dask_pkgsync.model.presentation import presented, presented_person, recognition_in
from dask_pkgsync.model.text import shown
from dask_pkgsync.model.wire.protocol import PRESENTED, UNKNOWN_FINGERPRINT
from dask_pkgsync.model.wire.releases import ReleaseMismatchError
from dask_pkgsync.node.log import logger
from dask_pkgsync.scheduler.dask_internals import (
    CLIENT,
    IDENTITY,
    WORKER,
    connection_of,
    knows_n_workers,
    misfit,
    package_versions,
    put_back,
    refuse_client,
    refuse_worker,
    stand_in_for,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import ParamSpec, TypeVar

    from distributed import Scheduler
    from distributed.comm.core import Comm

    from dask_pkgsync.model.operator_policy import OperatorPolicy
    from dask_pkgsync.scheduler.clients.acquaintances import Acquaintances

    P = ParamSpec("P")
    T = TypeVar("T")
    Handler = Callable[..., Awaitable[Any]]
    Judge = Callable[[str, dict[str, Any]], str | None]

MAX_LOGGED = 200
"""The most different decisions that are logged within `LOG_PAUSE`; every one of them is published as an event."""
LOG_PAUSE = 60.0
"""Seconds within which the same decision about one host is logged only once."""
MAX_REASON = 4_000
"""The most characters of a reason that events and the log keep."""


@dataclass(frozen=True)
class Objection:
    """Why a client or worker does not match the cluster."""

    reason: str
    """The text for the person who started it, with a table of the differences."""
    is_final: bool
    """Whether every mode refuses it, because its handshake is malformed or the scheduler's configuration is broken."""


class UnknownFingerprintError(Exception):
    """A client wants to be recognised by a fingerprint that the scheduler does not know, or no longer."""


class Gate:
    """Wraps ``register-client`` and ``register-worker`` of one scheduler.

    Parameters
    ----------
    scheduler : Scheduler
    operator_policy : OperatorPolicy
        What the operator has configured.
    judge_worker : callable
        Returns why a worker whose critical packages match may not register; None if it may.
    is_active : callable
        Returns False once the plugin was removed from the scheduler without a release: then the gate judges nobody.
    log_event : callable
        Receives an event (a dictionary) for every refusal, and in mode ``warn`` for every mismatch.
    acquaintances : Acquaintances
        The environments that were let in, whose clients need not present them again.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        operator_policy: OperatorPolicy,
        judge_worker: Callable[[dict[str, Any]], str | None],
        is_active: Callable[[], bool],
        log_event: Callable[[dict[str, Any]], None],
        acquaintances: Acquaintances,
    ) -> None:
        self.scheduler = scheduler
        self.operator_policy = operator_policy
        self.judge_worker = judge_worker
        self.is_active = is_active
        self.log_event = log_event
        self.acquaintances = acquaintances
        self.originals: dict[str, Handler] = {}
        """Dask's own handlers, by operation; empty while the gate is open."""
        self.lock = asyncio.Lock()
        self.ready = asyncio.Event()
        """Set once the operator policy is known; until then every registration waits."""
        self.ready.set()
        self.logged: dict[tuple[str, str, int], float] = {}
        """Of decisions that were logged lately: who, host and hash of the reason, with the time, in seconds."""

    def close(self) -> None:
        """Begin to judge registrations; a second call changes nothing."""
        handlers: dict[str, Handler] = {CLIENT: self.register_client, WORKER: self.register_worker}
        if not knows_n_workers(self.scheduler):
            handlers[IDENTITY] = self.identity
        for name, handler in handlers.items():
            if name not in self.originals:
                self.originals[name] = stand_in_for(self.scheduler, name, handler)

    def open(self) -> None:
        """Give the scheduler its own handlers back."""
        for name, handler in self.originals.items():
            put_back(self.scheduler, name, handler)
        self.originals = {}

    async def identity(self, **_: Any) -> Any:
        """Answer a newer client that asks for the identity with a parameter which distributed before 2025.4.0 lacks.

        Dask's own handler would raise before the client registers, and its user would not read the reason.
        """
        return self.scheduler.identity()

    async def register_client(self, comm: Comm, **message: Any) -> None:
        """Judge a client; call Dask's handler, or refuse it: `Client(...)` then raises `ImportError` with our table."""
        original = self.originals[CLIENT]
        reason = None
        await self.ready.wait()
        if self.is_active():
            reason = self._reason_by_mode(message, "client", await self._client_objection(message), comm.peer_address)
        if reason is None:
            await original(comm, **message)
            return
        if reason == UNKNOWN_FINGERPRINT:  # a question, to which the client answers at once
            await refuse_client(comm, reason)
            return
        event = {"action": "client-refused", "client": _printable(message.get("client")), "address": comm.peer_address}
        self.log_event({**event, "person": presented_person(message.get("versions")), "reason": _shorten(reason)})
        self._log("refused", "client", message, comm.peer_address, reason)
        await refuse_client(comm, reason)

    async def register_worker(self, comm: Comm, **message: Any) -> None:
        """Judge a worker; call Dask's handler, or refuse it so that it does not start and logs our text."""
        original = self.originals[WORKER]
        await self.ready.wait()
        reason = self._reason(message, "worker", comm.peer_address) if self.is_active() else None
        if reason is None:
            await original(comm, **message)
            return
        self.log_event(
            {"action": "worker-refused", "worker": _printable(message.get("address")), "reason": _shorten(reason)}
        )
        self._log("refused", "worker", message, comm.peer_address, reason)
        await refuse_worker(comm, reason)

    async def get_acquainted(self, client: str) -> None:
        """Remember the environment of a client that has synced, which it may have presented before the gate was closed.

        Parameters
        ----------
        client : str
            Dask's name of the client.
        """
        state = self.scheduler.clients.get(client)
        message = {"versions": state.versions if state is not None else None}
        with contextlib.suppress(MessageError, ReleaseMismatchError):
            if (environment := await self._in_thread(presented, message)) is not None:
                self.acquaintances.remember(environment)

    async def judge_connected(self) -> None:
        """Judge the clients and workers that registered before the gate was closed.

        A client that does not match loses its connection, connects again, and is refused then. A worker that does not
        match is removed.
        """
        for name, client in list(self.scheduler.clients.items()):
            comm = connection_of(self.scheduler, name)
            message = {"client": name, "versions": client.versions}
            if comm is not None and self._reason(message, "client", comm.peer_address) is not None:
                comm.abort()
        for worker in list(self.scheduler.workers.values()):
            message = {"address": worker.address, "versions": worker.versions}
            critical = compare_critical(own_versions(), versions_in(message), **_WORKER)
            reason = self.operator_policy.judge_worker(message, critical)
            objection = Objection(reason, is_final=False) if reason else None
            if (reason := self._reason_by_mode(message, "worker", objection, worker.address)) is not None:
                self.log_event({"action": "worker-refused", "worker": worker.address, "reason": reason})
                await self.scheduler.remove_worker(address=worker.address, stimulus_id="pkgsync-refused", close=True)

    async def _client_objection(self, message: dict[str, Any]) -> Objection | None:
        """Judge a client: in a thread if it presents its environment, which may hold thousands of packages.

        The threads keep the order of arrival: if a client loses its connection and connects again, its first handshake
        is judged before its second.
        """
        versions = message.get("versions")
        presentation = versions.get(PRESENTED) if isinstance(versions, dict) else None
        if isinstance(presentation, dict) and "environment" in presentation:
            return await self._in_thread(self.objection, message, "client")
        return self.objection(message, "client")

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a long computation in a thread, which does not block the event loop: one at a time, in order of arrival.

        Several threads at once would not be faster, and would slow the event loop down.
        """
        async with self.lock:
            return await asyncio.to_thread(function, *args, **kwargs)

    def objection(self, message: dict[str, Any], who: str) -> Objection | None:
        """Return why a handshake does not match the cluster, or None if it does; changes nothing."""
        reason = None
        if self.operator_policy.broken:
            return Objection(self.operator_policy.broken, is_final=True)
        try:
            identity(message, who)
            reason = self._difference(message, who)
            self._check_form(message, who)
        except MessageError as error:
            return Objection(reason or _malformed(error), is_final=True)
        except UnknownFingerprintError:
            return Objection(UNKNOWN_FINGERPRINT, is_final=True)
        except ReleaseMismatchError as error:
            return Objection(str(error), is_final=False)
        return Objection(reason, is_final=False) if reason else None

    def _difference(self, message: dict[str, Any], who: str) -> str | None:
        critical = compare_critical(own_versions(), versions_in(message), expected_label="scheduler", found_label=who)
        if who == "worker":
            return self.operator_policy.judge_worker(message, critical) or self.judge_worker(message)
        if (recognition := recognition_in(message)) is not None:
            if not self.acquaintances.recognises(recognition):
                raise UnknownFingerprintError
            return self.operator_policy.text(critical)
        environment = presented(message)
        if self.operator_policy.lets_in(environment):
            return None
        reason = self.operator_policy.judge_client(message, environment, critical)
        if environment is not None and reason is None:
            self.acquaintances.remember(environment)
        return reason

    def _check_form(self, message: dict[str, Any], who: str) -> None:
        """Raise `MessageError` if any other part of a handshake is malformed, before Dask's handler reads it."""
        if problem := misfit(self.scheduler, CLIENT if who == "client" else WORKER, message):
            raise MessageError("handshake", "the parts that this scheduler's Dask reads", problem)
        if who == "worker":
            check_worker(message, Status.__members__)
            try:
                get_address_host(message["address"])
            except ValueError as error:
                raise MessageError("handshake.address", "an address that this Dask can reach", str(error)) from None

    def _reason(self, message: dict[str, Any], who: str, address: str) -> str | None:
        return self._reason_by_mode(message, who, self.objection(message, who), address)

    def _reason_by_mode(
        self, message: dict[str, Any], who: str, objection: Objection | None, address: str
    ) -> str | None:
        """Return why to refuse a client or worker; in mode ``warn`` publish and log the differences; return None."""
        if objection is None or objection.is_final or not self.operator_policy.only_warns:
            return objection.reason if objection else None
        name = _printable(message.get("client" if who == "client" else "address"))
        event = {"action": "mismatch", who: name, "person": presented_person(message.get("versions"))}
        self.log_event({**event, "reason": _shorten(objection.reason)})
        self._log("let in all the same (pkgsync.mode is warn)", who, message, address, objection.reason)
        return None

    def _log(self, decision: str, who: str, message: dict[str, Any], address: str, reason: str) -> None:
        """Log a decision, but the same one about a host that tries again only once within `LOG_PAUSE`."""
        person, host = presented_person(message.get("versions")), address.rpartition(":")[0]
        who = f"{who} of {person}" if person else who
        key, now = (who, host, hash(reason)), time()
        if now - self.logged.get(key, 0.0) < LOG_PAUSE:
            return
        self.logged = {known: logged for known, logged in self.logged.items() if now - logged < LOG_PAUSE}
        if len(self.logged) >= MAX_LOGGED:  # a host that changes its handshake with each try must not fill the log
            return
        self.logged[key] = now
        logger.warning("%s: %s at %s\n%s", decision, who, address, _shorten(reason))


_WORKER = {"expected_label": "scheduler", "found_label": "worker"}


def _malformed(error: MessageError) -> str:
    advice = "Connect with the same versions that this scheduler runs: "
    return f"{error}\n{advice}{', '.join(f'{name} {version}' for name, version in own_versions().items())}"


def own_versions() -> dict[str, str | None]:
    """Return the versions of the critical packages that the running code of this process has."""
    packages = package_versions()
    versions: dict[str, str | None] = {name: packages.get(name) for name in CRITICAL}
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    return versions


def mismatch(client: dict[str, str | None], address: str) -> PkgsyncError | None:
    """Return the error for a client whose critical packages differ from the scheduler's; None if they match."""
    own = {**own_versions(), "implementation": sys.implementation.name}
    comparison = compare_critical(own, client, expected_label="scheduler", found_label="client")
    return EnvironmentMismatchError(comparison, address) if comparison else None


def _printable(value: object) -> str:
    """Return a received value as text that is safe in an event: short, and without control characters."""
    text = shown(value, 200)
    return text if text.isprintable() else ascii(text)[:200]


def _shorten(reason: str) -> str:
    """Return the part of a reason that events and the log keep; only the refused client or worker gets all of it."""
    return (
        reason
        if len(reason) <= MAX_REASON
        else f"{reason[:MAX_REASON]}… (and {len(reason) - MAX_REASON} characters more)"
    )
