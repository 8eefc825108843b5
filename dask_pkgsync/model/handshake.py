"""Checks what clients and workers say in Dask's own handshake, whole, before Dask does anything with it.

What Dask does with a malformed handshake leaves state behind for ever (distributed 2026.8.0): a client that never goes,
or a worker without numbers of its memory, over which the active memory manager stumbles from then on.
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
"""Entries in the versions of a handshake: Dask names about ten, and compares each with those of every worker."""
_OF_WORKER = re.compile(r"Client-worker-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_NAME = 500
"""Characters of an address, or of the name of a client or worker."""
MAX_ENTRIES = 1_000
"""Entries of one of a worker's metrics: Dask adds them all up."""


def identity(message: dict[str, Any], who: str) -> str:
    """Check and return the name of a client, or the address of a worker."""
    return Field(message, "handshake").key("client" if who == "client" else "address").text(MAX_NAME)


def is_of_worker(client: str) -> bool:
    """Whether this is Dask's name for the client that a task gets on a worker (`distributed.Worker`, 2026.8.0)."""
    return _OF_WORKER.fullmatch(client) is not None


LOOKING = "pkgsync-look"
"""What a client is called that only looks (`distributed.Client`, ``name``)."""


def only_looks(client: str) -> bool:
    """Whether this is the name of a client of a command such as ``dask pkgsync status``, which uses no package."""
    return client.startswith(f"Client-{LOOKING}-")


def versions_in(message: dict[str, Any]) -> dict[str, str | None]:
    """Check the versions in a handshake, whole, and return the critical ones."""
    packages = Field(message, "handshake").key("versions").key("packages")
    found: dict[str, str | None] = {}
    for name, version in packages.entries(MAX_PACKAGES):
        Field(name, f"{packages.place} (a name)").text(200)
        found[name] = None if version.value is None else version.text(200)
    return {name: found.get(name) for name in ("python", *CRITICAL)}


_SYSTEMS = {"linux": "linux", "darwin": "macosx", "windows": "win"}
"""What `sysconfig.get_platform` calls what `platform.system` says."""


def may_be_on(message: dict[str, Any], platform: str) -> bool:
    """Whether a client or worker may be on a platform (`sysconfig.get_platform`), by what Dask's handshake says."""
    host = Field(message, "handshake").key("versions").value.get("host")
    system, machine = (host.get("OS"), host.get("machine")) if isinstance(host, dict) else (None, None)
    if not isinstance(system, str) or not isinstance(machine, str):
        return True
    wanted_system, _, rest = platform.partition("-")
    wanted_machine = rest.rpartition("-")[2]
    same_machine = wanted_machine in (machine.lower(), "universal2", "")
    return _SYSTEMS.get(system.lower(), system.lower()) == wanted_system and same_machine


def check_worker(message: dict[str, Any], statuses: Collection[str]) -> None:
    """Refuse a worker's handshake that Dask would stumble over half-way (`Scheduler.add_worker`).

    Parameters
    ----------
    message : dict
        Every part is there, and no other: that can be seen from the signature of Dask's handler.
    statuses : collection of str
        What Dask calls the states of a worker.
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
        if amount.value != inf:  # (as much as anybody wants)
            amount.finite()


def _check_name(name: Field) -> None:
    """Check the name of a worker, which may be a number, or a tuple of such."""
    for part in name.items(10) if isinstance(name.value, tuple) else (name,):
        if isinstance(part.value, str):
            part.text(MAX_NAME)
        else:
            part.finite()


def _check_metrics(metrics: Field) -> None:
    """Check those that the scheduler itself reads; people add others."""
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
                raise MessageError(entry.place, "a sum and how many it is of", [total, count])
    for key, value in metrics.key("digests_total_since_heartbeat").entries(MAX_ENTRIES):
        if not isinstance(key, str | tuple):
            raise MessageError(value.place, "a name", key)
        value.finite()
