"""Looks at every node of any running cluster, without changing, installing or registering anything.

It needs no client, which a gate may refuse: the scheduler answers plain calls. The scan travels as text, so the nodes
need neither dask-pkgsync nor this Python (`carry.visit`). The scheduler passes the calls on to workers and nannies,
which a client often cannot reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dask_pkgsync.carry.visit import visit
from dask_pkgsync.client.dask_internals import call_nodes, call_scheduler, members_of, versions_of
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment, environment_from_wire
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromModules
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.handshake import versions_in
from dask_pkgsync.model.reports.cluster_comparison import ObservedNode
from dask_pkgsync.model.text import shown
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.names import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FEW = 16
"""Up to this many nodes, all send their environments at once; of more, one of each kind is asked for it."""
AT_ONCE = 40
"""The most hosts that are called at once."""
TIMEOUT = 120.0
"""Seconds that the nodes of one host may take for an answer."""
_FUNCTION = "dask_pkgsync.scanning.observation:observe"


async def observed(scheduler: Any, here: Environment) -> list[ObservedNode]:
    """Return every node of a cluster, with what is importable in its process.

    Parameters
    ----------
    scheduler : rpc
        Calls the handlers of the scheduler: ``Client.scheduler``, or what `dask_internals.scheduler_at` gives.
    here : Environment
        The environment that the nodes will be compared with: its loose modules are looked for on the nodes.

    Raises
    ------
    OSError
        If the scheduler cannot be reached.
    """
    modules = [
        one.name.removeprefix("module-") for one in here.distributions.values() if isinstance(one.origin, FromModules)
    ]
    members = await members_of(scheduler)
    nodes = [ObservedNode(one.address, one.role, nanny=one.nanny) for one in members]
    hosts = {one.address: one.host for one in members}
    ask = _Asking(scheduler, nodes, hosts)
    first = await ask(nodes, modules=modules, with_environment=len(nodes) <= FEW)
    digests = {node: _digest(first.get(_key(node))) for node in nodes}
    firsts = {digest: node for node, digest in reversed(digests.items()) if digest}
    missing = [node for node in firsts.values() if not first[_key(node)]["result"]["environment"]]
    more = await ask(missing, modules=modules, with_environment=True) if missing else {}
    environments = {
        digest: await asyncio.to_thread(_environment, more.get(_key(node)) or first[_key(node)])
        for digest, node in firsts.items()
    }
    found = [_observed(node, first.get(_key(node)), environments.get(digests[node], "")) for node in nodes]
    blocked = [node for node in found if node.environment is None]
    return [node for node in found if node.environment is not None] + await _by_versions(scheduler, blocked, here)


def _key(node: ObservedNode) -> tuple[str, str]:
    return node.role, node.address


class _Asking:
    """Calls our function on nodes of one cluster."""

    def __init__(self, scheduler: Any, nodes: Iterable[ObservedNode], hosts: Mapping[str, str]) -> None:
        self.scheduler, self.hosts = scheduler, hosts
        self.limit = asyncio.Semaphore(AT_ONCE)
        self.workers = {node.nanny: node.address for node in nodes if node.nanny}
        """The worker of each nanny."""

    async def __call__(self, nodes: Iterable[ObservedNode], **arguments: Any) -> dict[tuple[str, str], Any]:
        """Return what each node has answered, by its role and address."""
        message = await asyncio.to_thread(visit, _FUNCTION, **arguments)
        calls: dict[tuple[str, str], list[ObservedNode]] = defaultdict(list)
        for node in nodes:
            calls[node.role, self.hosts[node.address]].append(node)
        answers = await asyncio.gather(*(self._call(alike, message) for alike in calls.values()))
        return {key: answer for some in answers for key, answer in some.items()}

    async def _call(self, nodes: list[ObservedNode], message: dict[str, bytes]) -> dict[tuple[str, str], Any]:
        """Call it on nodes of one role and host."""
        role = nodes[0].role
        called = {node: self.workers[node.address] if role == "nanny" else node.address for node in nodes}
        found: Any
        async with self.limit:
            try:
                if role == "scheduler":
                    answer = await asyncio.wait_for(call_scheduler(self.scheduler, message), TIMEOUT)
                    found = dict.fromkeys(called.values(), answer)
                else:
                    call = call_nodes(self.scheduler, message, list(called.values()), nanny=role == "nanny")
                    found = await asyncio.wait_for(call, TIMEOUT)
            except asyncio.TimeoutError:
                found = dict.fromkeys(called.values(), TimeoutError(f"no answer within {TIMEOUT:.0f} s"))
            except Exception as error:  # noqa: BLE001  # the operator may have blocked the handler, and more
                found = dict.fromkeys(called.values(), error)
        return {_key(node): _opened(found.get(address)) for node, address in called.items()}


def _opened(answer: Any) -> dict[str, Any]:
    """Return what our function has returned on a node; ``error`` says why it could not be called."""
    match answer:
        case {"status": "OK", "result": dict() as result}:
            return result
        case {"exception": error} | (Exception() as error):
            return {"error": shown(str(error) or type(error).__name__, 300)}
        case {"error": str()}:
            return dict(answer)
    return {"error": "it has left the cluster" if answer is None else shown(answer, 300)}


def _digest(answer: Any) -> str:
    match answer:
        case {"result": {"digest": str(digest)}}:
            return digest
    return ""


def _environment(answer: Any) -> Environment | str:
    """Check and read an environment that a node has sent; return what is wrong with it, if anything."""
    text = Field(answer["result"], "node").key("environment").value
    try:
        return environment_from_wire(json.loads(zlib.decompress(text)), "node.environment")
    except (PkgsyncError, ValueError, TypeError, zlib.error) as error:
        return f"its answer cannot be read: {error}"


def _observed(node: ObservedNode, answer: Any, environment: Environment | str) -> ObservedNode:
    match answer:
        case {"result": {"host": str(host), "imported": [*names]}} if isinstance(environment, Environment):
            return replace(node, host=host, environment=environment, imported=frozenset(map(str, names)))
        case {"packages": dict(), "python": str(python), "host": str(host)}:
            problem = f"Python {python} is older than dask-pkgsync needs: builds and local code were not compared"
            return replace(node, host=host, environment=_from_versions(answer), problem=problem)
        case {"error": str(error)}:
            return replace(node, problem=error)
    return replace(node, problem=environment if isinstance(environment, str) and environment else "it did not answer")


def _from_versions(answer: Mapping[str, Any]) -> Environment:
    """Make an environment of the names and versions that an old Python has sent."""
    told = [shown(answer.get(name, ""), 200) for name in ("implementation", "python", "platform")]
    packages = {canonical(str(name)): str(version) for name, version in answer["packages"].items()}
    distributions = [Distribution(name, version) for name, version in packages.items() if name]
    return Environment.of(Interpreter(told[0], told[1], told[2], ""), distributions)


async def _by_versions(scheduler: Any, nodes: list[ObservedNode], here: Environment) -> list[ObservedNode]:
    """Look at nodes that run no functions of ours by the versions that Dask itself tells.

    An operator may have blocked the handler ``run``, or a node may not answer it.
    """
    if not nodes:
        return []
    told: dict[tuple[str, str], Any] = {}
    workers = [node.address for node in nodes if node.role == "worker"]
    with contextlib.suppress(Exception):  # what cannot be told stays unseen, with the reason that it had before
        told = await asyncio.wait_for(versions_of(scheduler, workers), TIMEOUT)
    found = []
    for node in nodes:
        try:
            versions = versions_in({"versions": told.get(_key(node))})
        except PkgsyncError:
            found.append(node)
            continue
        problem = f"only Python and the packages that Dask needs could be compared: {node.problem}"
        packages = [Distribution(name, version) for name, version in versions.items() if version and name != "python"]
        own = here.interpreter
        interpreter = Interpreter(own.implementation, versions["python"] or "?", own.platform, "")
        found.append(replace(node, environment=Environment.of(interpreter, packages), is_partial=True, problem=problem))
    return found
