"""Checks the handshakes of clients and workers completely before Dask handles them.

Dask (distributed 2026.8.0) keeps state of a malformed handshake for ever: a client that is never removed, or a worker
without figures of its memory, at which the active memory manager fails from then on.
"""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.policy import CRITICAL
from dask_pkgsync.model.wire.fields import Field

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_PACKAGES = 200
"""The most entries in the versions of a handshake: Dask sends about ten, and compares each with every worker's."""
_OF_WORKER = re.compile(r"Client-worker-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_NAME = 500
"""The most characters of an address, or of the name of a client or worker."""
MAX_ENTRIES = 1_000
"""The most entries in one metric of a worker: Dask adds up all of them."""


def identity(message: dict[str, Any], role: str) -> str:
    """Check and return the name of a client (role ``client``) or the address of a worker in its handshake."""
    return Field(message, "handshake").key("client" if role == "client" else "address").text(MAX_NAME)


def is_of_worker(client: str) -> bool:
    """Whether a client's name is one that Dask gives to the client of a task on a worker (distributed 2026.8.0)."""
    return _OF_WORKER.fullmatch(client) is not None


LOOKING = "pkgsync-look"
"""The name (`distributed.Client`, ``name``) of clients that only read, such as that of ``dask pkgsync status``."""


def only_looks(client: str) -> bool:
    """Whether a client's name is that of a command such as ``dask pkgsync status``, which only reads."""
    return client.startswith(f"Client-{LOOKING}-")


def versions_in(message: dict[str, Any]) -> dict[str, str | None]:
    """Check all versions in a handshake; return those of Python and of the critical packages."""
    packages = Field(message, "handshake").key("versions").key("packages")
    versions: dict[str, str | None] = {}
    for name, version in packages.entries(MAX_PACKAGES):
        Field(name, f"{packages.place} (a name)").text(200)
        versions[name] = None if version.value is None else version.text(200)
    return {name: versions.get(name) for name in ("python", *CRITICAL)}


_SYSTEMS = {"linux": "linux", "darwin": "macosx", "windows": "win"}
"""The names of operating systems: that of `platform.system` to that of `sysconfig.get_platform`."""


def may_be_on(message: dict[str, Any], platform: str) -> bool:
    """Whether a client or worker may be on a platform, by the system and machine in its handshake.

    Parameters
    ----------
    message : dict
        The handshake. One that names no system or machine may come from any platform.
    platform : str
        As `sysconfig.get_platform` writes it, for example ``linux-x86_64``.
    """
    host = Field(message, "handshake").key("versions").value.get("host")
    system, machine = (host.get("OS"), host.get("machine")) if isinstance(host, dict) else (None, None)
    if not isinstance(system, str) or not isinstance(machine, str):
        return True
    wanted_system, _, rest = platform.partition("-")
    wanted_machine = rest.rpartition("-")[2]
    same_machine = wanted_machine in (machine.lower(), "universal2", "")
    return _SYSTEMS.get(system.lower(), system.lower()) == wanted_system and same_machine


def check_worker(message: dict[str, Any], statuses: Collection[str]) -> None:
    """Refuse a worker's handshake at which Dask's handler (`Scheduler.add_worker`) would fail half-way.

    Parameters
    ----------
    message : dict
        The handshake. It has exactly the keys that the signature of Dask's handler names.
    statuses : collection of str
        Dask's names of the states of a worker (`distributed.core.Status`).

    Raises
    ------
    MessageError
        If a value in the handshake is not what Dask expects.
    """
    root = Field(message, "handshake")
    if "://" not in root.key("address").text(MAX_NAME):
        raise MessageError("handshake.address", "an address such as tcp://10.0.0.3:40331", root.value["address"])
    if root.key("status").text(50) not in statuses:
        raise MessageError("handshake.status", f"one of {', '.join(statuses)}", root.value["status"])
    _check_name(root.key("name"))
    for name in ("nthreads", "now", "pid"):
        root.key(name).number()
    if root.key("memory_limit").value is not None:
        root.key("memory_limit").number()
    for name in ("server_id", "stimulus_id"):
        root.key(name).text()
    root.key("local_directory").long_text()
    if root.key("nanny").value is not None:
        root.key("nanny").text(MAX_NAME)
    for key, port in root.key("services").entries(100):
        Field(key, port.place).text(200)
    _check_resources(root.key("resources"))
    for _ in root.key("extra").entries(MAX_ENTRIES):
        pass
    _check_metrics(root.key("metrics"))


def _check_resources(resources: Field) -> None:
    for key, amount in resources.entries(MAX_ENTRIES):
        Field(key, amount.place).text(200)
        if amount.value != inf:  # an unlimited resource
            amount.finite()


def _check_name(name: Field) -> None:
    """Check the name of a worker, which may be a text, a number, or a tuple of texts and numbers."""
    for part in name.items(10) if isinstance(name.value, tuple) else (name,):
        if isinstance(part.value, str):
            part.text(MAX_NAME)
        else:
            part.finite()


def _check_metrics(metrics: Field) -> None:
    """Check the metrics that the scheduler reads; workers may send others (`distributed.Worker`, ``metrics``)."""
    metrics.key("memory").finite()
    for name in ("memory", "disk"):
        metrics.key("spilled_bytes").key(name).finite()
    bandwidth = metrics.key("bandwidth")
    bandwidth.key("total").finite()
    for name in ("workers", "types"):
        for key, entry in bandwidth.key(name).entries(MAX_ENTRIES):
            Field(key, entry.place).text()
            total, count = (part.finite() for part in entry.row(2))
            if count <= 0:
                raise MessageError(entry.place, "a sum and a positive count", [total, count])
    for key, value in metrics.key("digests_total_since_heartbeat").entries(MAX_ENTRIES):
        if not isinstance(key, str | tuple):
            raise MessageError(value.place, "a name", key)
        value.finite()
