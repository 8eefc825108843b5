"""What names a cluster: a client, an address, a scheduler file, or a cluster object; and a client for any of these."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client

from dask_pkgsync.client.connection import connected
from dask_pkgsync.model.errors import PkgsyncError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import TypeAlias, TypeVar

    Result = TypeVar("Result")

    ClusterName: TypeAlias = Client | str | os.PathLike[str] | Any
    """A client; the address of a scheduler, or a `Place`; the path of a scheduler file; or a cluster object, such as
    a `LocalCluster`, ``SSHCluster``, ``KubeCluster`` or ``GatewayCluster``."""


@dataclass(frozen=True)
class Place:
    """Where a scheduler listens, and how to connect to it."""

    address: str
    """For example ``tcp://10.0.0.1:8786``."""
    security: Any = None
    """A `distributed.Security`; None: as Dask's configuration says."""


def place_of(cluster: ClusterName, security: Any = None) -> Place:
    """Return where the scheduler of a cluster listens.

    Parameters
    ----------
    cluster : str, Path or cluster object
        As `ClusterName`, but no client.
    security : Security, optional
        For an address or a scheduler file; a cluster object has its own.

    Raises
    ------
    TypeError
        If it is nothing that names a cluster.
    PkgsyncError
        If a scheduler file cannot be read, or the cluster object has no scheduler yet.
    """
    if isinstance(cluster, Place):
        return cluster
    if isinstance(cluster, str | os.PathLike):
        text = os.fspath(cluster)
        return Place(_address_in(Path(text)) if is_scheduler_file(text) else text, security)
    if hasattr(cluster, "scheduler_address"):
        address = cluster.scheduler_address
        if not isinstance(address, str) or "://" not in address:
            raise PkgsyncError(f"{cluster!r:.200} has no scheduler: start it, or wait until it has started")
        return Place(address, security or getattr(cluster, "security", None))
    raise TypeError(
        f"expected a distributed.Client, an address, a scheduler file or a cluster object, found {cluster!r:.100}"
    )


def is_scheduler_file(name: str) -> bool:
    """Whether a text is the path of a scheduler file (``dask scheduler --scheduler-file``), and not an address."""
    return "://" not in name and (name.endswith(".json") or Path(name).is_file())


def _address_in(file: Path) -> str:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        address = data["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it has no address of a scheduler"
        raise PkgsyncError(
            f"{file} is no scheduler file that can be read: {reason}. `dask scheduler --scheduler-file {file}` "
            "writes one."
        ) from None
    if not isinstance(address, str):
        raise PkgsyncError(f"{file} is no scheduler file: its address is {address!r:.50}")
    return address


@contextmanager
def client_of(cluster: ClusterName, **how: Any) -> Iterator[Client]:
    """Return a client of a cluster; one that was opened here is closed at the end of the block.

    Parameters
    ----------
    cluster : ClusterName
    **how
        How to connect, if there is no client yet: further arguments of `client.connection.connected`.

    Raises
    ------
    TypeError
        If it is nothing that names a cluster.
    RefusedError
        If the scheduler refuses the client that is opened here.
    PkgsyncError
        If nothing answers at the address, or a scheduler file cannot be read.
    """
    if isinstance(cluster, Client):
        yield cluster
        return
    place = place_of(cluster)
    with connected(place.address, place.security, **how) as client:
        yield client


def with_client(
    cluster: ClusterName, function: Callable[[Client], Awaitable[Result]], **how: Any
) -> Result | Awaitable[Result]:
    """Call a coroutine function with a client of a cluster, and return its result.

    Parameters
    ----------
    cluster : ClusterName
    function : callable
    **how
        As for `client_of`.

    Returns
    -------
    object
        The result; an awaitable of it for an asynchronous client.
    """
    with client_of(cluster, **how) as client:
        result: Result | Awaitable[Result] = client.sync(function, client)
        return result
