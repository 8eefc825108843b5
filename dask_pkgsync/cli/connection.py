"""The connection of a command to its cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dask_pkgsync.cli.arguments import take_tls_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client


@contextmanager
def connected(address: str, given: dict[str, Any], **how: Any) -> Iterator[Client]:
    """Connect to a cluster with the TLS files, which are taken out of what was given, and close at the end.

    Parameters
    ----------
    address : str
    given : dict
        Arguments of a command.
    **how
        As for `client.connection.connected`.

    Raises
    ------
    PkgsyncError
        As `client.connection.connected` does.
    """
    from dask_pkgsync.client import connection

    with connection.connected(address, connection.security(**take_tls_files(given)), **how) as client:
        yield client
