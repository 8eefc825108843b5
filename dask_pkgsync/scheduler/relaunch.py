"""The relaunch of a cluster: all processes prepare, the nodes leave, and the scheduler executes itself anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from time import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.relaunch import RELAUNCHES, RelaunchRefusedError
from dask_pkgsync.model.reports.failure import NodeFailure, SyncError, failure_from_wire, failure_to_wire
from dask_pkgsync.model.reports.sync import NodeReport, SyncReport, report_to_wire
from dask_pkgsync.model.target import target_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.agent import expected, failure_of, is_own_process
from dask_pkgsync.node.dask_internals import preloads_of
from dask_pkgsync.node.log import logger
from dask_pkgsync.node.relaunch import make_ready, written
from dask_pkgsync.options.node import relaunch_timeout
from dask_pkgsync.options.scheduler import may_relaunch, restart_for_a_release
from dask_pkgsync.process.relaunch import execute, execute_again, relaunched
from dask_pkgsync.scheduler.clients.claims import Claim
from dask_pkgsync.scheduler.dask_internals import listens_at, stop_listening
from dask_pkgsync.scheduler.possessions import obstacles

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler

    from dask_pkgsync.model.operator_policy import OperatorPolicy
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.node.relaunch import Ready
    from dask_pkgsync.scheduler.blobs.service import BlobService
    from dask_pkgsync.scheduler.guest import Guest
    from dask_pkgsync.scheduler.rollout.nodes import Node
    from dask_pkgsync.scheduler.rollout.rollout import Rollout

SCHEDULER = "scheduler"
"""The role of the scheduler in reports."""
LEAVE_TIMEOUT = 60.0
"""Seconds in which a node must have ended its workers, and answered that it leaves."""
RETURN_MARGIN = 15.0
"""Seconds that are added to the time in which nodes must have registered, for their old command to start again."""


@dataclass
class Departure:
    """A process that is executed anew, and what has become of it."""

    nodes: tuple[str, ...]
    """The addresses that its nannies, or its worker, had."""
    role: str
    """``nanny`` or ``worker``."""
    notes: tuple[str, ...] = ()
    """What the user should know of its environment."""
    returned: list[str] = field(default_factory=list)
    """The addresses of the nannies, or of the worker, that have registered since."""
    words: str = ""
    """The last words of its new command, if that has failed."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of it."""
        return bool(self.words) or len(self.returned) >= len(self.nodes)


@dataclass
class Record:
    """How a relaunch went; it outlives the scheduler that began it."""

    id: str
    target: str
    """Name of the target (`Target.id`)."""
    began: float
    """When the scheduler left, in seconds since the epoch."""
    deadline: float
    """When the nodes must have returned, in seconds since the epoch."""
    lost: tuple[str, ...] = ()
    """What was lost, a text each."""
    departures: dict[str, Departure] = field(default_factory=dict)
    """By token of the process."""
    failures: tuple[NodeFailure, ...] = ()
    """The nodes that did not leave."""
    notes: tuple[str, ...] = ()
    """What the user should know of the scheduler's environment."""
    scheduler_words: str = ""
    """The last words of the new scheduler, if it has failed, and what ran before runs again."""

    @property
    def is_over(self) -> bool:
        """Whether all nodes have returned, or are not waited for any more."""
        return all(one.is_over for one in self.departures.values()) or time() > self.deadline

    def to_wire(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "id": self.id,
            "target": self.target,
            "began": self.began,
            "deadline": self.deadline,
            "lost": list(self.lost),
            "departures": {
                token: {
                    "nodes": list(one.nodes),
                    "role": one.role,
                    "notes": list(one.notes),
                    "returned": list(one.returned),
                    "words": one.words,
                }
                for token, one in self.departures.items()
            },
            "failures": [failure_to_wire(failure) for failure in self.failures],
            "notes": list(self.notes),
            "scheduler-words": self.scheduler_words,
        }


class Relauncher:
    """Relaunches one cluster, and knows how its last relaunch went.

    Parameters
    ----------
    scheduler : Scheduler
    operator_policy : OperatorPolicy
        What the operator has configured.
    rollout : Rollout
        Brings nodes to targets; its lock is held while the cluster prepares to be relaunched.
    blob_service : BlobService
        Serves the wheels that the guest provides.
    asked : callable
        Returns the target that clients have asked for; None if they have asked for none.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        operator_policy: OperatorPolicy,
        rollout: Rollout,
        blob_service: BlobService,
        asked: Callable[[], Target | None],
    ) -> None:
        self.scheduler = scheduler
        self.operator_policy = operator_policy
        self.rollout, self.nodes = rollout, rollout.nodes
        self.blob_service = blob_service
        self.asked = asked
        self.record: Record | None = None
        """How the last relaunch went; None if this cluster was never relaunched."""
        self.leaving: asyncio.Task[None] | None = None
        """Lets the cluster leave after a release."""

    async def relaunch(self, target: Target, guest: Guest) -> None:
        """Execute all processes of the cluster anew in a target; returns only if that is not begun.

        Parameters
        ----------
        target : Target
        guest : Guest
            Who asks for it; provides the wheels that nodes cannot get elsewhere.

        Raises
        ------
        PolicyError
            If the operator does not allow it.
        RelaunchRefusedError
            If somebody would lose something, and the client has asked for a relaunch only if nobody does.
        SyncError
            If the scheduler, or every node, could not prepare.
        """
        self._refuse_without_permission(target)
        self._refuse_unless_idle(target, guest)
        async with self.rollout.lock:
            service = self.blob_service
            service.providers.guests[guest.name] = guest
            before = await service.serve(Claim(guest.name, target))
            try:
                ready, departures, failures = await self._prepare(target)
                self._refuse_unless_idle(target, guest)
                guest.stays = True
                await self._leave(target, ready, self._record(target, departures, failures), guest)
            finally:
                service.providers.guests.pop(guest.name, None)
                await service.serve_again(before)

    @property
    def is_relaunched(self) -> bool:
        """Whether this scheduler was executed anew in an environment that its command does not name."""
        known = relaunched()
        return known is not None and known.state["runs"][known.run]["python"] != known.state["origin"]["python"]

    async def release(self, client: str) -> tuple[SyncReport, str]:
        """Let all processes be what they were first started as; return a report, and the name of the relaunch.

        They leave right after this has returned.

        Parameters
        ----------
        client : str
            Dask's name of the client that asks for it, which may lose its own connection.

        Raises
        ------
        RelaunchRefusedError
            If somebody else would lose something, and the operator has not configured that this is no matter.
        """
        found = obstacles(self.scheduler, without=client)
        if found and restart_for_a_release() != "now":
            raise RelaunchRefusedError(found)
        ready, departures, failures = await self._prepare(None)
        record = self._record(None, departures, failures)
        self.leaving = asyncio.create_task(self._leave(None, ready, record, None))
        own = str(self.scheduler.address)
        nodes = [(own, SCHEDULER), *((node, one.role) for one in departures.values() for node in one.nodes)]
        return SyncReport("", tuple(NodeReport(node, role, "relaunched") for node, role in nodes)), record.id

    def _refuse_without_permission(self, target: Target) -> None:
        allowed, policy = may_relaunch(), self.operator_policy
        if policy.enforced is not None or policy.only_warns:
            raise PolicyError(
                f"the operator has configured the environment of this cluster (pkgsync.mode is {policy.mode}): "
                "no client can relaunch it"
            )
        if RELAUNCHES.index(target.relaunch) > RELAUNCHES.index(allowed):
            raise PolicyError(
                f"the operator of this cluster allows no relaunch={target.relaunch!r} (pkgsync.may-relaunch is "
                f"{allowed})"
            )
        if target.policy.extra and not target.has_extra:
            raise PolicyError(
                "extra cannot be given to a cluster that is to be relaunched: relaunch it without, and sync with extra "
                "then"
            )
        if is_own_process(target):
            raise PolicyError(
                "this scheduler runs in the client's own process (a LocalCluster): its environment is the client's"
            )

    def _refuse_unless_idle(self, target: Target, guest: Guest) -> None:
        if target.relaunch != "now" and (found := obstacles(self.scheduler, without=guest.client)):
            raise RelaunchRefusedError(found)

    # -- prepare ------------------------------------------------------------------------------------------------------

    async def _prepare(self, target: Target | None) -> tuple[Ready, dict[str, Departure], dict[str, NodeFailure]]:
        """Let the scheduler and all nodes prepare; return what left the scheduler ready, and which nodes can leave."""
        nodes = self.nodes.connected()
        before = self.nodes.begin()
        try:
            preparing = asyncio.create_task(self._prepare_scheduler(target))
            answers = await asyncio.gather(*(self._prepare_node(node, target) for node in nodes))
            own = await preparing
            failures = dict(self.nodes.failures)
        finally:
            self.nodes.restore(before)
        if own is None or (nodes and len(failures) >= len(nodes)):
            for failure in failures.values():
                logger.warning("the cluster is not relaunched, because a node failed: %s", failure)
            raise SyncError(failures)
        departures: dict[str, Departure] = {}
        for node, answer in zip(nodes, answers, strict=True):
            if answer is not None:
                token, notes = answer
                known = departures.get(token, Departure((), node.role, notes))
                known.nodes = (*known.nodes, node.address)
                departures[token] = known
        return own, departures, failures

    async def _prepare_scheduler(self, target: Target | None) -> Ready | None:
        scheduler = self.scheduler
        nodes, address = self.nodes, str(scheduler.address)
        nodes.step(address, SCHEDULER, "prepare", "started")
        fetch, preloads = self.blob_service.own_fetch(), preloads_of(scheduler)
        try:
            ready = await asyncio.to_thread(make_ready, "scheduler", target, fetch, preloads, {})
        except Exception as error:  # noqa: BLE001  # an unexpected error, too, must end the relaunch in order
            nodes.fail(failure_of(address, expected(error)), SCHEDULER)
            return None
        nodes.step(address, SCHEDULER, "prepare", "finished", "ready to be relaunched")
        return ready

    async def _prepare_node(self, node: Node, target: Target | None) -> tuple[str, tuple[str, ...]] | None:
        self.nodes.step(node.address, node.role, "prepare", "started")
        parcels = await self.rollout.steps.parcels(target) if target is not None else None
        answer = await self.rollout.steps.rpc.get_ready(node, parcels, str(self.scheduler.address))
        if isinstance(answer, NodeFailure):
            self.nodes.fail(answer, node.role)
            return None
        self.nodes.step(node.address, node.role, "prepare", "finished", "ready to be relaunched")
        return answer

    # -- leave --------------------------------------------------------------------------------------------------------

    def _record(
        self, target: Target | None, departures: dict[str, Departure], failures: dict[str, NodeFailure]
    ) -> Record:
        lost = obstacles(self.scheduler) if target is not None and target.relaunch == "now" else ()
        name = target.id if target is not None else ""
        return Record(uuid4().hex, name, time(), time(), tuple(map(str, lost)), departures, tuple(failures.values()))

    async def _leave(self, target: Target | None, ready: Ready, record: Record, guest: Guest | None) -> None:
        """Let the nodes leave, then execute this scheduler anew; where that fails, what it runs now, once more."""
        whither = f"in environment {target.id:.12}, for {target.owner}" if target is not None else "as it was before"
        logger.info("this cluster is relaunched %s", whither)
        before = self.asked()
        data = {
            "addresses": listens_at(self.scheduler),
            "target": target_to_wire(target) if target else None,
            "before": target_to_wire(before) if before else None,
        }
        record.notes = ready.notes
        path = await self._write(ready, data, record)  # now, as from here on this scheduler cannot go on as it is
        stop_listening(self.scheduler)  # no worker is to register with the scheduler that is about to leave
        try:
            await self._let_all_leave(record)
            await self._write(ready, data, record)
            if guest is not None:
                guest.send({"state": "leaves", "relaunch": record.id})
                await guest.sent()
            logger.info("the scheduler is executed anew as %s", ready.relaunch.new.command)
            execute(path)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody else can connect any more
            logger.exception("the scheduler could not be executed anew")
            execute_again(path, f"{type(error).__name__}: {error}")

    async def _let_all_leave(self, record: Record) -> None:
        answers = await asyncio.gather(*(self._let_leave(token, one) for token, one in record.departures.items()))
        for token, failure in zip(list(record.departures), answers, strict=True):
            if failure is not None:
                gone = record.departures.pop(token).nodes
                record.failures += tuple(replace(failure, node=address) for address in gone)

    async def _write(self, ready: Ready, data: dict[str, Any], record: Record) -> str:
        record.deadline = time() + 3 * relaunch_timeout() + RETURN_MARGIN
        relaunch = replace(ready.relaunch, data={**data, "record": record.to_wire()})
        return await asyncio.to_thread(written, replace(ready, relaunch=relaunch))

    async def _let_leave(self, token: str, departure: Departure) -> NodeFailure | None:
        rpc = self.rollout.steps.rpc
        for address in departure.nodes:
            self.nodes.step(address, departure.role, "activate", "started")
        return await rpc.leave(departure.nodes[0], token, LEAVE_TIMEOUT)

    # -- after the return ---------------------------------------------------------------------------------------------

    def note_returned(self, token: str, node: str, failure: str) -> None:
        """Note that a node has returned, or that its new command has failed and the old one runs again."""
        departure = self.record.departures.get(token) if self.record is not None else None
        if departure is None:
            return
        if failure:
            departure.words = failure
            logger.warning("a node did not come back in the new environment, %s: %s", departure.nodes[0], failure)
        elif node not in departure.returned:
            departure.returned.append(node)
            logger.info("a node has come back: %s (it was %s)", node, ", ".join(departure.nodes))

    def report(self, asked: str) -> dict[str, Any]:
        """Return, as plain data, how a relaunch of this name went so far."""
        record = self.record
        if record is None or record.id != asked:
            return {"state": "unknown"}
        if record.scheduler_words:
            address = str(self.scheduler.address)
            failure = _failed(address, record.scheduler_words, "the cluster runs again as it was before")
            return {"state": "failed", "failure": failure_to_wire(failure)}
        if not record.is_over:
            return {"state": "waits"}
        own = str(self.scheduler.address)
        reports = [NodeReport(own, SCHEDULER, "relaunched", notes=(*record.notes, *_lost(record.lost)))]
        failures = list(record.failures)
        for departure in record.departures.values():
            reports += [
                NodeReport(address, departure.role, "relaunched", notes=departure.notes)
                for address in departure.returned
            ]
            missing = departure.nodes[len(departure.returned) :]
            words = departure.words
            told = "it has left the cluster"
            failures += [_failed(address, words, told) if words else _gone(address) for address in missing]
        return {
            "state": "over",
            "target": record.target,
            "seconds": time() - record.began,
            "nodes": [report_to_wire(report) for report in reports],
            "failures": [failure_to_wire(failure) for failure in failures],
        }


def record_from_wire(data: object) -> Record:
    """Check and read what `Record.to_wire` wrote."""
    found = Field(data, "record")
    departures = {
        str(token): Departure(
            tuple(node.text() for node in one.key("nodes").items()),
            one.key("role").text(20),
            tuple(note.text() for note in one.key("notes").items()),
            [node.text() for node in one.key("returned").items()],
            one.key("words").long_text(),
        )
        for token, one in found.key("departures").entries(100_000)
    }
    return Record(
        found.key("id").text(100),
        found.key("target").text(100),
        found.key("began").number(),
        found.key("deadline").number(),
        tuple(one.text() for one in found.key("lost").items()),
        departures,
        tuple(failure_from_wire(one.value, one.place) for one in found.key("failures").items()),
        tuple(note.text() for note in found.key("notes").items()),
        found.key("scheduler-words").long_text(),
    )


def _lost(lost: tuple[str, ...]) -> tuple[str, ...]:
    return (f"lost by the relaunch: {'; '.join(lost)}",) if lost else ()


def _failed(address: str, words: str, consequence: str) -> NodeFailure:
    *earlier, problem = words.splitlines() or [""]
    return NodeFailure(
        address,
        "relaunch",
        f"its command did not run in the new environment: {problem}; {consequence}",
        "Look into the log of this node.",
        "\n".join(earlier),
    )


def _gone(address: str) -> NodeFailure:
    return NodeFailure(
        address,
        "relaunch",
        "it was executed anew in the new environment, and has not come back",
        "Look into the log of this node, and start it again if it has ended.",
    )
