"""Stands in front of the scheduler's two registration handlers and refuses who would break the cluster."""

from __future__ import annotations

import contextlib
import logging
import sys
from time import time
from typing import TYPE_CHECKING, Any

from distributed.comm.core import CommClosedError
from distributed.versions import get_versions

from dask_pkgsync.core.compare import compare_critical
from dask_pkgsync.core.errors import EnvironmentMismatchError, MessageError, PkgsyncError
from dask_pkgsync.core.fields import Field
from dask_pkgsync.core.policy import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Scheduler
    from distributed.comm.core import Comm

    from dask_pkgsync.adapters.rule import Rule

    Handler = Callable[..., Awaitable[Any]]
    Judge = Callable[[str, dict[str, Any]], str | None]

logger = logging.getLogger("dask_pkgsync")

CLIENT, WORKER = "register-client", "register-worker"
LOGGED = 200
"""Refusals that are logged within that time; all are events."""
LOG_PAUSE = 60.0
"""Seconds in which the same refusal of one host is logged once."""
MAX_PACKAGES = 2_000
"""Entries that a handshake may name: stock Dask names about ten."""


class Gate:
    """Wraps ``register-client`` and ``register-worker`` of one scheduler.

    Parameters
    ----------
    scheduler : Scheduler
    rule : Rule
        What the operator has configured.
    judge_worker : callable
        Says why a worker, whose handshake is otherwise in order, may not register; None if it may.
    is_on_duty : callable
        False once the plugin was taken off the scheduler behind our back: then everybody is let through.
    tell : callable
        Receives an event (a dictionary) for every refusal.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        rule: Rule,
        judge_worker: Callable[[dict[str, Any]], str | None],
        is_on_duty: Callable[[], bool],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self.scheduler = scheduler
        self.rule = rule
        self.judge_worker = judge_worker
        self.is_on_duty = is_on_duty
        self.tell = tell
        self.originals: dict[str, Handler] = {}
        self.logged: dict[tuple[str, str, int], float] = {}

    def close(self) -> None:
        """Begin to judge; a gate that stands already is not wrapped twice."""
        for name, handler in ((CLIENT, self.register_client), (WORKER, self.register_worker)):
            if name not in self.originals:
                self.originals[name] = self.scheduler.handlers[name]
                self.scheduler.handlers[name] = handler

    def open(self) -> None:
        """Give the scheduler its own handlers back."""
        for name, handler in self.originals.items():
            self.scheduler.handlers[name] = handler
        self.originals = {}

    async def register_client(self, comm: Comm, **message: Any) -> None:
        """Judge a client; delegate, or answer so that a stock client raises `ImportError` with our table."""
        original = self.originals[CLIENT]
        if not self.is_on_duty():
            await original(comm, **message)
            return
        reason = self._reason(message, "client")
        if reason is None:
            await original(comm, **message)
            return
        who = message.get("client")
        self.tell({"action": "client-refused", "client": _shown(who), "address": comm.peer_address, "reason": reason})
        self._log("client", comm.peer_address, reason)
        await _answer(comm, [{"op": "stream-start", "error": reason}])

    def _log(self, who: str, address: str, reason: str) -> None:
        """Log a refusal; the same one of a host that tries again and again only now and then."""
        host = address.rpartition(":")[0]
        key, now = (who, host, hash(reason)), time()
        if now - self.logged.get(key, 0.0) < LOG_PAUSE:
            return
        self.logged = {known: then for known, then in self.logged.items() if now - then < LOG_PAUSE}
        if len(self.logged) >= LOGGED:  # somebody tries with something else each time
            return
        self.logged[key] = now
        logger.warning("refused: %s at %s\n%s", who, address, reason)

    def _reason(self, message: dict[str, Any], who: str) -> str | None:
        """Return why somebody is refused; where only differences are told, tell them and return None."""
        more = self.rule.judge_client if who == "client" else self.judge_worker
        try:
            if who == "client" and self.rule.lets_in(message):
                return malformed(message, who)
            reason = judge(message, who) or more(message)
        except MessageError as error:  # what it presents beyond Dask's own handshake
            return _unreadable(error)
        if reason is None or not self.rule.only_warns or malformed(message, who):
            return reason
        name = _shown(message.get("client" if who == "client" else "address"))
        self.tell({"action": "mismatch", who: name, "reason": reason})
        logger.warning("let in all the same (mode is warn): %s %s\n%s", who, name, reason)
        return None

    async def register_worker(self, comm: Comm, **message: Any) -> None:
        """Judge a worker; delegate, or answer so that it fails to start and logs our text."""
        original = self.originals[WORKER]
        if not self.is_on_duty():
            await original(comm, **message)
            return
        reason = self._reason(message, "worker")
        if reason is None:
            await original(comm, **message)
            return
        address = _shown(message.get("address"))
        self.tell({"action": "worker-refused", "worker": address, "reason": reason})
        self._log("worker", comm.peer_address, reason)
        await _answer(comm, {"status": "error", "message": reason, "time": time()})


def malformed(message: dict[str, Any], who: str) -> str | None:
    """Return why a handshake cannot be judged at all, or None.

    Everything is looked at before Dask sees any of it: what Dask does with a malformed handshake leaves a client state
    behind for ever (distributed 2026.8.0).
    """
    try:
        identity = Field(message, "handshake").key("client" if who == "client" else "address")
        identity.text(500)
        handshake_versions(message)
    except MessageError as error:
        return _unreadable(error)
    return None


def _unreadable(error: MessageError) -> str:
    advice = "Connect with the Dask that this scheduler runs: "
    return f"{error}\n{advice}{', '.join(f'{name} {version}' for name, version in own_versions().items())}"


def judge(message: dict[str, Any], who: str) -> str | None:
    """Return why a handshake is refused for its critical versions, or because it is malformed; or None."""
    if (reason := malformed(message, who)) is not None:
        return reason
    found = handshake_versions(message)
    comparison = compare_critical(own_versions(), found, expected_label="scheduler", found_label=who)
    return str(EnvironmentMismatchError(comparison)) if comparison else None


def handshake_versions(message: dict[str, Any]) -> dict[str, str | None]:
    """Check the versions in a handshake, whole, and return the critical ones."""
    versions = Field(message, "handshake").key("versions")
    packages = versions.key("packages")
    if not isinstance(packages.value, dict):
        raise MessageError(packages.place, "a dictionary", packages.value)
    if len(packages.value) > MAX_PACKAGES:
        raise MessageError(packages.place, f"at most {MAX_PACKAGES} packages", f"{len(packages.value)} packages")
    found: dict[str, str | None] = {}
    for name, version in packages.value.items():
        Field(name, f"{packages.place} (a name)").text(200)
        entry = Field(version, f"{packages.place}.{name}")
        found[name] = None if version is None else entry.text(200)
    return {name: found.get(name) for name in ("python", *CRITICAL)}


def own_versions() -> dict[str, str | None]:
    """Return the critical versions of this process: those that its running code has."""
    packages = get_versions()["packages"]
    versions: dict[str, str | None] = {name: packages.get(name) for name in CRITICAL}
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    return versions


def mismatch(client: dict[str, str | None]) -> PkgsyncError | None:
    """Return the error for a client whose critical versions are not the scheduler's."""
    here = {**own_versions(), "implementation": sys.implementation.name}
    comparison = compare_critical(here, client, expected_label="scheduler", found_label="client")
    return EnvironmentMismatchError(comparison) if comparison else None


def _shown(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text[:200]


async def _answer(comm: Comm, message: object) -> None:
    with contextlib.suppress(CommClosedError):
        await comm.write(message)
        await comm.close()
