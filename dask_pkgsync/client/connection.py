"""The client of a command: it presents what this environment has, and does nothing else when it connects."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client
from distributed.comm.addressing import resolve_address
from distributed.security import Security

from dask_pkgsync.client.dask_internals import change_handshake, restore_handshake
from dask_pkgsync.client.handshake import presenting
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.handshake import LOOKING
from dask_pkgsync.model.operator_policy import NO_FINGERPRINT
from dask_pkgsync.options.configuration import check_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRELOAD = "dask_pkgsync.preload"


class RefusedError(PkgsyncError):
    """The scheduler does not let this client in."""


@contextmanager
def connected(
    address: str, security: Any, *, modules: Any = None, presents: bool = True, only_looks: bool = True
) -> Iterator[Client]:
    """Connect to a cluster, and close at the end.

    Parameters
    ----------
    address : str
    security : Security or None
    modules : bool or list of str, optional
        Loose modules that count.
    presents : bool
        Whether to tell the cluster at once what this environment has, by which it may judge. Who only looks tells it
        where nobody is let in otherwise: whatever they have, they break nothing.
    only_looks : bool
        Whether it counts as nobody's client, for whom nothing has to be kept.

    Raises
    ------
    RefusedError
        With the scheduler's own words.
    PkgsyncError
        If nobody answers there, or this environment cannot be presented.
    """
    with ExitStack() as stack:
        if presents:
            stack.enter_context(presented(modules))
        try:
            client = _connect(address, security, only_looks=only_looks)
        except RefusedError as error:
            if presents or NO_FINGERPRINT not in str(error):
                raise
            stack.enter_context(presented(in_any_case=True))
            client = _connect(address, security, only_looks=only_looks)
        yield stack.enter_context(client)


def _connect(address: str, security: Any, *, only_looks: bool) -> Client:
    try:
        resolve_address(address)  # a client that was given nonsense complains again when it is collected
        return connect(address, security, only_looks=only_looks)
    except PkgsyncError:
        raise
    except ImportError as error:  # how Dask says that the scheduler has refused this client
        if isinstance(error.__cause__, PkgsyncError):  # this environment could not be presented
            raise error.__cause__ from None
        raise RefusedError(str(error)) from error
    except (OSError, TypeError, ValueError) as error:
        raise PkgsyncError(f"cannot connect to {address}: {error}") from error


def security(ca_file: str | None = None, cert: str | None = None, key: str | None = None) -> Security | None:
    """Make Dask's TLS settings of files; None where none is given, and Dask reads its configuration."""
    if not (ca_file or cert or key):
        return None
    return Security(tls_ca_file=ca_file, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


def connect(address: str, security: Any, *, only_looks: bool) -> Client:
    """Connect without our own preload: it would sync, and Dask logs what preloads do.

    Parameters
    ----------
    address : str
    security : Security or dict or None
    only_looks : bool
        Whether it counts as nobody's client, for whom nothing has to be kept.

    Raises
    ------
    PolicyError
        For a configuration that the preload would have refused.
    """
    names, argv = _preloads()
    if PRELOAD in names:
        check_configuration()
    kept = [(name, one) for name, one in zip(names, argv, strict=False) if name != PRELOAD]
    settings = {
        "distributed.client.preload": [name for name, _ in kept],
        "distributed.client.preload-argv": [one for _, one in kept],
    }
    with dask.config.set(settings):
        return Client(address, security=security, set_as_default=False, name=LOOKING if only_looks else None)


def _preloads() -> tuple[list[str], list[list[str]]]:
    """Return the preloads of clients, with the arguments of each, as Dask understands its configuration."""
    names = dask.config.get("distributed.client.preload", default=[])
    names = [names] if isinstance(names, str) else list(names)
    argv = dask.config.get("distributed.client.preload-argv", default=[])
    return names, argv if argv and not isinstance(argv[0], str) else [list(argv)] * len(names)


@contextmanager
def presented(modules: Any = None, *, in_any_case: bool = False) -> Iterator[None]:
    """Present in Dask's handshake what this environment has, also when a client comes back.

    Parameters
    ----------
    modules : bool or list of str, optional
        Loose modules that count; by default as configured.
    in_any_case : bool
        Whether to do it without loose modules where these cannot travel.
    """
    before = change_handshake(lambda told: _lenient(presenting(told)) if in_any_case else presenting(told))
    try:
        with dask.config.set({} if modules is None else {"pkgsync.modules": modules}):
            yield
    finally:
        restore_handshake(before)


def _lenient(get_versions: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @functools.wraps(get_versions)
    def without_modules(packages: Any = None) -> dict[str, Any]:
        try:
            return get_versions(packages)
        except ImportError:
            with dask.config.set({"pkgsync.modules": False}):
                return get_versions(packages)

    return without_modules
