"""Stands in front of the scheduler's two registration handlers and refuses who would break the cluster."""

from __future__ import annotations

import asyncio
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
from dask_pkgsync.model.presentation import presented, presented_person
from dask_pkgsync.model.text import shown
from dask_pkgsync.model.wire.protocol import PRESENTED
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

    P = ParamSpec("P")
    T = TypeVar("T")
    Handler = Callable[..., Awaitable[Any]]
    Judge = Callable[[str, dict[str, Any]], str | None]

LOGGED = 200
"""Refusals that are logged within that time; all are events."""
LOG_PAUSE = 60.0
"""Seconds in which the same refusal of one host is logged once."""
TOLD = 4_000
"""Characters of a reason that events and the log keep."""


@dataclass(frozen=True)
class Objection:
    """What there is against a client or worker."""

    reason: str
    is_final: bool
    """Whether it is malformed, so that Dask would stumble over it: refused in every mode."""


class Gate:
    """Wraps ``register-client`` and ``register-worker`` of one scheduler.

    Parameters
    ----------
    scheduler : Scheduler
    operator_policy : OperatorPolicy
        What the operator has configured.
    judge_worker : callable
        Says why a worker, whose handshake is otherwise in order, may not register; None if it may.
    is_active : callable
        False once the plugin was taken off the scheduler behind our back: then everybody is let through.
    log_event : callable
        Receives an event (a dictionary) for every refusal.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        operator_policy: OperatorPolicy,
        judge_worker: Callable[[dict[str, Any]], str | None],
        is_active: Callable[[], bool],
        log_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.scheduler = scheduler
        self.operator_policy = operator_policy
        self.judge_worker = judge_worker
        self.is_active = is_active
        self.log_event = log_event
        self.originals: dict[str, Handler] = {}
        self.lock = asyncio.Lock()
        self.ready = asyncio.Event()
        """Set once it is known by which rule to judge; until then whoever comes waits."""
        self.ready.set()
        self.logged: dict[tuple[str, str, int], float] = {}

    def close(self) -> None:
        """Begin to judge; a gate that stands already is not wrapped twice."""
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
        """Answer a client that asks for more than a scheduler before distributed 2025.4.0 knows.

        It would fail before it registers, and its person would not read why.
        """
        return self.scheduler.identity()

    async def register_client(self, comm: Comm, **message: Any) -> None:
        """Judge a client; delegate, or answer so that a stock client raises `ImportError` with our table."""
        original = self.originals[CLIENT]
        reason = None
        await self.ready.wait()
        if self.is_active():
            reason = self._weigh(message, "client", await self._client_objection(message), comm.peer_address)
        if reason is None:
            await original(comm, **message)
            return
        event = {"action": "client-refused", "client": _shown(message.get("client")), "address": comm.peer_address}
        self.log_event({**event, "person": presented_person(message.get("versions")), "reason": _cut(reason)})
        self._log("refused", "client", message, comm.peer_address, reason)
        await refuse_client(comm, reason)

    async def register_worker(self, comm: Comm, **message: Any) -> None:
        """Judge a worker; delegate, or answer so that it fails to start and logs our text."""
        original = self.originals[WORKER]
        await self.ready.wait()
        reason = self._reason(message, "worker", comm.peer_address) if self.is_active() else None
        if reason is None:
            await original(comm, **message)
            return
        self.log_event({"action": "worker-refused", "worker": _shown(message.get("address")), "reason": _cut(reason)})
        self._log("refused", "worker", message, comm.peer_address, reason)
        await refuse_worker(comm, reason)

    async def judge_those_inside(self) -> None:
        """Judge who came in before the gate was closed; who would be refused loses the connection, and is told then."""
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
            if (reason := self._weigh(message, "worker", objection, worker.address)) is not None:
                self.log_event({"action": "worker-refused", "worker": worker.address, "reason": reason})
                await self.scheduler.remove_worker(address=worker.address, stimulus_id="pkgsync-refused", close=True)

    async def _client_objection(self, message: dict[str, Any]) -> Objection | None:
        """Judge a client; one that presents its packages aside, as they may be thousands.

        When a client that lost its connection comes back, its first handshake is through before its second.
        """
        versions = message.get("versions")
        if not isinstance(versions, dict) or PRESENTED not in versions:
            return self.objection(message, "client")
        return await self.aside(self.objection, message, "client")

    async def aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes long in a thread, where it holds nobody up: one at a time, in the order of arrival.

        More threads than one would not be quicker, and the event loop would have to wait for each of them.
        """
        async with self.lock:
            return await asyncio.to_thread(function, *args, **kwargs)

    def objection(self, message: dict[str, Any], who: str) -> Objection | None:
        """Return what there is against a handshake; changes nothing."""
        reason = None
        if self.operator_policy.broken:
            return Objection(self.operator_policy.broken, is_final=True)
        try:
            identity(message, who)
            reason = self._difference(message, who)
            self._check(message, who)
        except MessageError as error:
            return Objection(reason or _unreadable(error), is_final=True)
        except ReleaseMismatchError as error:
            return Objection(str(error), is_final=False)
        return Objection(reason, is_final=False) if reason else None

    def _difference(self, message: dict[str, Any], who: str) -> str | None:
        found = versions_in(message)
        environment = presented(message) if who == "client" else None
        if who == "client" and self.operator_policy.lets_in(environment):
            return None
        critical = compare_critical(own_versions(), found, expected_label="scheduler", found_label=who)
        if who == "worker":
            return self.operator_policy.judge_worker(message, critical) or self.judge_worker(message)
        return self.operator_policy.judge_client(message, environment, critical)

    def _check(self, message: dict[str, Any], who: str) -> None:
        """Look at everything else in a handshake before Dask sees any of it."""
        if other := misfit(self.scheduler, CLIENT if who == "client" else WORKER, message):
            raise MessageError("handshake", "what the handshake of this Dask has", other)
        if who == "worker":
            check_worker(message, Status.__members__)
            try:
                get_address_host(message["address"])
            except ValueError as error:
                raise MessageError("handshake.address", "an address that this Dask can reach", str(error)) from None

    def _reason(self, message: dict[str, Any], who: str, address: str) -> str | None:
        return self._weigh(message, who, self.objection(message, who), address)

    def _weigh(self, message: dict[str, Any], who: str, objection: Objection | None, address: str) -> str | None:
        """Return why somebody is refused; where only differences are told, tell them and return None."""
        if objection is None or objection.is_final or not self.operator_policy.only_warns:
            return objection.reason if objection else None
        name = _shown(message.get("client" if who == "client" else "address"))
        event = {"action": "mismatch", who: name, "person": presented_person(message.get("versions"))}
        self.log_event({**event, "reason": _cut(objection.reason)})
        self._log("let in all the same (mode is warn)", who, message, address, objection.reason)
        return None

    def _log(self, what: str, who: str, message: dict[str, Any], address: str, reason: str) -> None:
        """Log a decision; the same one about a host that tries again and again only now and then."""
        person, host = presented_person(message.get("versions")), address.rpartition(":")[0]
        who = f"{who} of {person}" if person else who
        key, now = (who, host, hash(reason)), time()
        if now - self.logged.get(key, 0.0) < LOG_PAUSE:
            return
        self.logged = {known: then for known, then in self.logged.items() if now - then < LOG_PAUSE}
        if len(self.logged) >= LOGGED:  # somebody tries with something else each time
            return
        self.logged[key] = now
        logger.warning("%s: %s at %s\n%s", what, who, address, _cut(reason))


_WORKER = {"expected_label": "scheduler", "found_label": "worker"}


def _unreadable(error: MessageError) -> str:
    advice = "Connect with the Dask that this scheduler runs: "
    return f"{error}\n{advice}{', '.join(f'{name} {version}' for name, version in own_versions().items())}"


def own_versions() -> dict[str, str | None]:
    """Return the critical versions of this process: those that its running code has."""
    packages = package_versions()
    versions: dict[str, str | None] = {name: packages.get(name) for name in CRITICAL}
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    return versions


def mismatch(client: dict[str, str | None]) -> PkgsyncError | None:
    """Return the error for a client whose critical versions are not the scheduler's."""
    here = {**own_versions(), "implementation": sys.implementation.name}
    comparison = compare_critical(here, client, expected_label="scheduler", found_label="client")
    return EnvironmentMismatchError(comparison) if comparison else None


def _shown(value: object) -> str:
    """Return something that was sent for events, which are sent on to others."""
    text = shown(value, 200)
    return text if text.isprintable() else ascii(text)[:200]


def _cut(reason: str) -> str:
    """Return what events and the log keep of a reason: whoever is refused is told all of it, and it may be long."""
    return reason if len(reason) <= TOLD else f"{reason[:TOLD]}… (and {len(reason) - TOLD} characters more)"
