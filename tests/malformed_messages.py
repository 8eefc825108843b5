"""Messages that no Dask and no dask-pkgsync sends: valid ones with a part replaced, junk of every type, huge ones."""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import Sized
from time import time
from typing import TYPE_CHECKING, Any

from distributed.comm import CommClosedError, connect
from distributed.core import clean_exception
from distributed.protocol.serialize import ToPickle, to_serialize
from distributed.versions import get_versions

from dask_pkgsync.model.environments.environment import environment_to_wire
from dask_pkgsync.model.policy import Policy, policy_to_wire
from dask_pkgsync.model.wire.protocol import PRESENTED, SCHEMA
from dask_pkgsync.model.wire.releases import THIS, release_to_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler

    from dask_pkgsync import Environment

CLIENT, WORKER = "register-client", "register-worker"
PATIENCE = 60.0
"""Seconds that an answer may take."""


def worker_handshake(address: str, name: str) -> dict[str, Any]:
    """Return what a worker without a nanny sends when it registers, but for the ``op``."""
    return {
        "address": address,
        "status": "running",
        "nthreads": 1,
        "name": name,
        "now": time(),
        "resources": {"GPU": 1.0},
        "memory_limit": 1 << 30,
        "local_directory": "/tmp",
        "services": {"dashboard": 8787},
        "nanny": None,
        "pid": 1,
        "versions": get_versions(),
        "metrics": {
            "task_counts": {},
            "bandwidth": {"total": 1e8, "workers": {}, "types": {}},
            "digests_total_since_heartbeat": {"tick-duration": 0.5},
            "managed_bytes": 0,
            "spilled_bytes": {"memory": 0, "disk": 0},
            "transfer": {"incoming_bytes": 0, "incoming_count": 0},
            "event_loop_interval": 0.02,
            "cpu": 1.0,
            "memory": 1 << 20,
            "time": time(),
            "host_net_io": {"read_bps": 0.0, "write_bps": 0.0},
            "num_fds": 10,
        },
        "extra": {},
        "stimulus_id": "worker-connect-1",
        "server_id": f"Worker-{name}",
    }


def presenting(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the versions of a handshake in which a client presents an environment."""
    shown = {"schema": SCHEMA, "release": release_to_wire(THIS), "person": "ann@laptop", "environment": environment}
    return {**get_versions(), PRESENTED: shown}


def padded(environment: dict[str, Any], count: int) -> dict[str, Any]:
    """Return an environment with so many distributions, as environments have them."""
    found = environment["distributions"]
    more = {
        f"package-number-{number}": {
            "version": f"{number % 90}.{number % 7}.post{number % 5}",
            "installer": "uv",
        }
        for number in range(count - len(found))
    }
    return {**environment, "distributions": {**found, **more}}


def with_other_versions(environment: dict[str, Any]) -> dict[str, Any]:
    """Return an environment in which every distribution has another version."""
    there = environment["distributions"]
    return {**environment, "distributions": {name: {**one, "version": "0.1"} for name, one in there.items()}}


def valid_messages(environment: dict[str, Any], target: str) -> list[tuple[str, dict[str, Any]]]:
    """Return one message, or more, for every handler that the gate and the controller have."""
    request = {"name": "six", "version": "1.17.0", "identity": ""}
    digest = "0" * 64
    blob = {
        "request": request,
        "filename": "six-1.17.0-py2.py3-none-any.whl",
        "digest": digest,
        "size": 10,
        "note": "",
    }
    error = {"package": "six", "problem": "problem", "advice": "advice", "last-words": "words"}
    own = {"client-process": "token", "store": "", "on-conflict": "refuse", "keep": False, "owner": "ann@laptop"}
    texts = {"node": "tcp://127.0.0.1:9", "step": "install", "problem": "p", "advice": "a", "last-words": "one\ntwo"}
    report = {
        "schema": SCHEMA,
        "address": "tcp://127.0.0.1:9",
        "role": "worker",
        "outcome": "matched",
        **{name: ["six 1.17.0"] for name in ("installed", "replaced", "hidden", "skipped", "notes", "left_out")},
        "seconds": 1.0,
        "fetched": 5,
        "layer": "",
        "clashes": [{"one": "one", "other": "two", "path": "shared.py", "more": 0}],
    }
    return [
        (CLIENT, {"client": "Client-1", "versions": get_versions()}),
        (CLIENT, {"client": "Client-2", "versions": presenting(environment)}),
        (WORKER, worker_handshake("tcp://127.0.0.1:9", "one")),
        (WORKER, {**worker_handshake("tcp://127.0.0.1:10", "two"), "nanny": "tcp://127.0.0.1:11"}),
        ("pkgsync_failed", {"failure": {**texts, "packages": ["six==1.17.0"]}}),
        ("pkgsync_report", {"report": report, "target": target}),
        ("pkgsync_status", {}),
        ("pkgsync_last", {}),
        ("pkgsync_release", {"client": "Client-1", "schema": SCHEMA}),
        ("pkgsync_check", {"environment": environment, "policy": policy_to_wire(Policy()), "process": "token"}),
        ("pkgsync_drain", {"worker": "tcp://127.0.0.1:9", "node": "tcp://127.0.0.1:9"}),
        ("pkgsync_blobs", {"requests": [request]}),
        ("pkgsync_get", {"blob": blob, "offset": 0}),
        ("pkgsync_offer", {"blobs": [blob], "errors": [{"request": request, "error": error}], "store": ""}),
        ("pkgsync_at_work", {"client": "Client-1"}),
        ("pkgsync_put", {"blob": blob, "offset": 0, "data": b"0123456789"}),
        ("pkgsync_join", {"client": "Client-1", "target": target, "rest": own}),
    ]


def nested(depth: int) -> Any:
    """Return lists and dictionaries in each other."""
    value: Any = 1
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


def wide(width: int, depth: int) -> Any:
    """Return a tree of lists."""
    return [wide(width, depth - 1) for _ in range(width)] if depth else 1


class Nasty:
    """Cannot even be shown; travels by pickle."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def _pickled(value: object) -> object:
    """Let a value arrive that the wire itself does not know."""
    return ToPickle(value)


SMALL: list[Callable[[], object]] = [
    lambda: None,
    lambda: True,
    lambda: -1,
    lambda: 0,
    lambda: 2**64 - 1,
    lambda: -(2**63),
    lambda: 1e308,
    lambda: math.nan,
    lambda: math.inf,
    lambda: "",
    lambda: "x",
    lambda: "-r/etc/passwd",
    lambda: "../../x",
    lambda: "\x1b[2J\n\x00",
    lambda: "9" * 3_000,
    lambda: "1." * 99 + "1",
    lambda: "é\u202e\u2028",
    lambda: b"\xff\x00",
    list,
    dict,
    lambda: {1: 2, (3, 4): [5]},
    lambda: [[], [[]], {}],
    lambda: nested(400),
    lambda: {"schema": 99},
    lambda: to_serialize([1, 2]),
    lambda: _pickled("\ud800"),
    lambda: _pickled({"\udfff": "\ud800"}),
    lambda: _pickled(10**5_000),
    lambda: _pickled({1, "2", None}),
    lambda: _pickled(nested(100)),
    lambda: _pickled(Nasty()),
]


class Fuzzer:
    """Makes messages up; the same ones for the same seed.

    Parameters
    ----------
    seed : int
    environment : Environment
        What a client has that is let in.
    target : str
        Name of the cluster's target.
    largest : int
        Entries of the largest lists and dictionaries.
    """

    def __init__(self, seed: int, environment: Environment, target: str = "", largest: int = 100_000) -> None:
        self.random = random.Random(seed)
        wire = environment_to_wire(environment)
        # Only a few of the distributions: the mutations are to find the other parts of a message, too.
        self.valid = valid_messages(wire, target)
        self.large = large_messages(wire, largest)

    def message(self, share_large: float = 0.002) -> tuple[str, dict[str, Any]]:
        """Return the name of a handler and what it is sent."""
        if self.random.random() < share_large:
            return self.random.choice(self.large)
        op, message = self.random.choice(self.valid)
        kind = self.random.random()
        if kind < 0.05:
            return op, message
        message = copy.deepcopy(message)
        for _ in range(self.random.choice((1, 1, 1, 2, 5))):
            self._damage(message)
        return op, message

    def _damage(self, message: dict[str, Any]) -> None:
        """Replace, remove, add, repeat or swap something anywhere."""
        place: Any = message
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = self.random.choice(keys)
            inner = place[key]
            if isinstance(inner, dict | list) and inner and self.random.random() < 0.8:
                place = inner
                continue
            break
        how = self.random.random()
        if not keys or how < 0.1:
            self._add(place)
        elif how < 0.2:
            del place[key]
        elif how < 0.3 and isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
        elif how < 0.4 and isinstance(place[key], str):
            place[key] = self._misspelt(place[key])
        else:
            place[key] = self.junk()

    def _add(self, place: Any) -> None:
        if isinstance(place, dict):
            place[self.random.choice(["x", "", "é" * 50, "schema", "client"])] = self.junk()
        else:
            place.append(self.junk())

    def _misspelt(self, text: str) -> str:
        where = self.random.randrange(len(text) + 1)
        return text[:where] + self.random.choice(["\n", "é", "\x00", "-", ".", "9", " ", "A" * 500]) + text[where:]

    def junk(self) -> Any:
        """Return a value of any type."""
        return self.random.choice(SMALL)()


def large_messages(environment: dict[str, Any], largest: int) -> list[tuple[str, dict[str, Any]]]:
    """Return messages that would take long to read; ``largest`` is more than any handler accepts."""
    request = {"name": "six", "version": "1.17.0", "identity": ""}
    error = {"package": "a", "problem": "b", "advice": "c", "last-words": "d"}
    other = with_other_versions(environment)
    vcs = {"kind": "vcs", "url": "https://example.org", "commit": "c" * 40, "vcs": "git", "subdirectory": ""}
    odd = {
        f"p{number}": {"version": f"1!{number}.0rc1+local.{number}", "origin": vcs}
        for number in range(min(largest, 20_000))
    }
    stray = [
        {"kind": "stray", "place": "/x", "detail": "y" * 100, "name": f"p{number}"}
        for number in range(min(largest, 20_000))
    ]
    environments = [
        padded(environment, 500),
        padded(environment, 5_000),
        padded(environment, largest),
        padded(other, 5_000),
        {**environment, "distributions": odd},
        {**environment, "faults": stray},
    ]
    packages = {f"p{number}": "1" for number in range(largest)}
    trees = [wide(20, 3), wide(max(2, round(largest ** (1 / 4))), 4), nested(400)]
    junk: list[Any] = [packages, [packages], "x" * largest * 10, b"x" * largest * 10, list(range(largest)), *trees]
    versions = get_versions()
    failure = {"node": "n", "step": "s", "problem": "p" * 20_000, "advice": "a", "last-words": "l" * 20_000}
    words = ["w" * 2_000] * min(1_000, largest)
    report = {"schema": SCHEMA, "address": "a", "role": "worker", "outcome": "matched", "installed": words}
    found: list[tuple[str, dict[str, Any]]] = []
    found += [(CLIENT, {"client": "Client-1", "versions": presenting(one)}) for one in environments]
    found += [("pkgsync_check", {"environment": one}) for one in environments]
    for one in junk:
        found += [
            (CLIENT, {"client": "Client-1", "versions": {**versions, "packages": one}}),
            (CLIENT, {"client": one, "versions": versions}),
            (CLIENT, {"client": "Client-1", "versions": presenting(one)}),
            (WORKER, {**worker_handshake("tcp://127.0.0.1:9", "one"), "metrics": one}),
            (WORKER, {**worker_handshake("tcp://127.0.0.1:9", "one"), "address": one}),
            (WORKER, {**worker_handshake("tcp://127.0.0.1:9", "one"), "extra": {"pkgsync": one}}),
            ("pkgsync_check", {"environment": one}),
            ("pkgsync_check", {"environment": environments[0], "policy": one, "process": one}),
            ("pkgsync_failed", {"failure": one}),
            ("pkgsync_report", {"report": one, "target": ""}),
            ("pkgsync_blobs", {"requests": one}),
            ("pkgsync_offer", {"blobs": one, "errors": one, "store": one}),
            ("pkgsync_at_work", {"client": one}),
            ("pkgsync_release", {"client": one, "schema": SCHEMA}),
            ("pkgsync_put", {"blob": one, "offset": one, "data": b""}),
            ("pkgsync_join", {"client": one, "target": one, "rest": one}),
            ("pkgsync_sync", {"client": "Client-1", "target": one}),
            ("pkgsync_drain", {"worker": one, "node": ""}),
        ]
    many = [{"name": f"p{n}", "version": f"{n}.1rc1", "identity": ""} for n in range(min(largest, 20_000))]
    found += [
        ("pkgsync_blobs", {"requests": [request] * min(largest, 20_000)}),
        ("pkgsync_blobs", {"requests": many}),
        ("pkgsync_offer", {"blobs": [], "errors": [{"request": request, "error": error}] * min(largest, 20_000)}),
        ("pkgsync_failed", {"failure": {**failure, "packages": words}}),
        ("pkgsync_report", {"report": report, "target": ""}),
    ]
    return found


async def say(address: str, op: str, message: dict[str, Any]) -> str:
    """Send a message over a connection of its own; return how it was answered, and hang up.

    Returns
    -------
    str
        ``let in`` or ``refused`` for handshakes, ``answered`` or the name of an error for the rest; ``hung up`` where
        the other end closed the connection without a word.
    """
    comm = await connect(address)
    try:
        await comm.write({"op": op, **message})
        answer = await asyncio.wait_for(comm.read(), PATIENCE)
    except CommClosedError:
        return "hung up"
    finally:
        comm.abort()
    if isinstance(answer, dict) and answer.get("status") == "uncaught-error":
        _, error, _ = clean_exception(**answer)
        return type(error).__name__
    if op == CLIENT:
        return "refused" if answer[0].get("error") else "let in"
    if op == WORKER:
        return "refused" if answer["status"] == "error" else "let in"
    return "answered"


def left_behind(scheduler: Scheduler) -> dict[str, Any]:
    """Return what messages could leave on a scheduler: of Dask's state the names, of ours how much there is."""
    controller: Any = scheduler.extensions["pkgsync"]
    ours = _sizes(controller)
    # These stay on purpose, up to a limit (tests/scheduler/test_acquaintances.py, tests/web/test_metrics.py).
    for name in [name for name in ours if name == "Acquaintances.environments" or name.startswith("History.")]:
        del ours[name]
    return {
        "clients": sorted(scheduler.clients),
        "client_comms": sorted(scheduler.client_comms),
        "tasks": len(scheduler.tasks),
        "workers": sorted(scheduler.workers),
        "stream_comms": sorted(scheduler.stream_comms),
        "aliases": sorted(map(str, scheduler.aliases)),
        "host_info": sorted(scheduler.host_info),
        "running": len(scheduler.running),
        "idle": len(scheduler.idle),
        "resources": {name: sorted(where) for name, where in scheduler.resources.items() if where},
        "nthreads": scheduler.total_nthreads,
        "memory": getattr(scheduler, "total_memory", 0),  # newer than Dask 2024.6.0
        "handlers": sorted(scheduler.handlers),
        "partial blobs": len(controller.blob_service.blobs._partial),
        **ours,
    }


def _sizes(part: object) -> dict[str, int]:
    """Return how much is in each list or dictionary of a part of the controller, and of its own parts."""
    found = {}
    for name, value in vars(part).items():
        if isinstance(value, Sized) and not isinstance(value, str | bytes):
            found[f"{type(part).__name__}.{name}"] = len(value)
        elif type(value).__module__.startswith(("dask_pkgsync.scheduler", "dask_pkgsync.model")) and hasattr(
            value, "__dict__"
        ):
            found.update(_sizes(value))
    return found
