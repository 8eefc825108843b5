"""Connects a command to its cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dask_pkgsync.cli.arguments import take_tls_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client


@contextmanager
def connected(address: str, given: dict[str, Any], **how: Any) -> Iterator[Client]:
    """Connect to a cluster, and close the client at the end of the block.

    Parameters
    ----------
    address : str
        Address of the scheduler, or the path of a scheduler file.
    given : dict
        Arguments of the command; the TLS files are removed from it.
    **how
        Further arguments of `client.connection.connected`.

    Raises
    ------
    PkgsyncError
        As for `client.connection.connected`.
    """
    from dask_pkgsync.client import connection
    from dask_pkgsync.client.clusters import place_of

    place = place_of(address, connection.security(**take_tls_files(given)))
    with connection.connected(place.address, place.security, **how) as client:
        yield client
