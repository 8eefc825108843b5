"""The client of a command such as `dask pkgsync check`: it presents its environment, and never syncs on connect."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client
from distributed.comm.addressing import resolve_address
from distributed.security import Security

from dask_pkgsync.client.handshake import present
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.handshake import LOOKING
from dask_pkgsync.model.operator_policy import NO_FINGERPRINT
from dask_pkgsync.options.configuration import check_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRELOAD = "dask_pkgsync.preload"


class RefusedError(PkgsyncError):
    """The scheduler has refused this client. The text is the scheduler's own."""


@contextmanager
def connected(
    address: str, security: Any, *, modules: Any = None, presents: bool = True, only_looks: bool = True
) -> Iterator[Client]:
    """Connect a client to a cluster, and close it at the end.

    Parameters
    ----------
    address : str
    security : Security or None
    modules : bool or list of str, optional
        The loose modules that belong to the presented environment; by default as configured.
    presents : bool
        Whether the handshake presents this environment, so that the scheduler can judge it. Without it, the
        environment is presented only if the scheduler refuses clients that present nothing.
    only_looks : bool
        Whether the client only reads. The cluster then keeps no environment for it.

    Raises
    ------
    RefusedError
        If the scheduler refuses this client, with the scheduler's own words.
    PkgsyncError
        If nothing answers at the address, or this environment cannot be presented.
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
        resolve_address(address)  # first: a Client with a bad address logs a second error when it is garbage-collected
        return connect(address, security, only_looks=only_looks)
    except PkgsyncError:
        raise
    except ImportError as error:  # Dask raises it when the scheduler refuses this client
        if isinstance(error.__cause__, PkgsyncError):  # this environment could not be presented
            raise error.__cause__ from None
        raise RefusedError(str(error)) from error
    except (OSError, TypeError, ValueError) as error:
        raise PkgsyncError(f"cannot connect to {address}: {error}") from error


def security(ca_file: str | None = None, cert: str | None = None, key: str | None = None) -> Security | None:
    """Return Dask's TLS settings for these files; None if no file is given, so that Dask's configuration applies."""
    if not (ca_file or cert or key):
        return None
    return Security(tls_ca_file=ca_file, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


def connect(address: str, security: Any, *, only_looks: bool) -> Client:
    """Connect a client that does not load our own preload, which would sync, and write lines into Dask's log.

    Parameters
    ----------
    address : str
    security : Security or dict or None
    only_looks : bool
        Whether the client only reads. The cluster then keeps no environment for it.

    Raises
    ------
    PolicyError
        If our preload is configured, and would refuse the configuration.
    """
    names, argv = _preloads()
    if PRELOAD in names:
        check_configuration()
    kept = [(name, arguments) for name, arguments in zip(names, argv, strict=False) if name != PRELOAD]
    settings = {
        "distributed.client.preload": [name for name, _ in kept],
        "distributed.client.preload-argv": [arguments for _, arguments in kept],
    }
    with dask.config.set(settings):
        return Client(address, security=security, set_as_default=False, name=LOOKING if only_looks else None)


def _preloads() -> tuple[list[str], list[list[str]]]:
    """Return the configured preloads of clients, and the arguments of each, read as Dask reads them."""
    names = dask.config.get("distributed.client.preload", default=[])
    names = [names] if isinstance(names, str) else list(names)
    argv = dask.config.get("distributed.client.preload-argv", default=[])
    return names, argv if argv and not isinstance(argv[0], str) else [list(argv)] * len(names)


@contextmanager
def presented(modules: Any = None, *, in_any_case: bool = False) -> Iterator[None]:
    """Let clients present this environment in Dask's handshake, also when they reconnect.

    Parameters
    ----------
    modules : bool or list of str, optional
        The loose modules that belong to the environment; by default as configured.
    in_any_case : bool
        Whether to leave the loose modules out if they cannot be scanned or are too large.
    """
    undo = present(_lenient if in_any_case else None)
    try:
        with dask.config.set({} if modules is None else {"pkgsync.modules": modules}):
            yield
    finally:
        undo()


def _lenient(get_versions: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a `get_versions` that presents the environment without loose modules if it fails with them."""

    @functools.wraps(get_versions)
    def without_modules(packages: Any = None) -> dict[str, Any]:
        try:
            return get_versions(packages)
        except ImportError:
            with dask.config.set({"pkgsync.modules": False}):
                return get_versions(packages)

    return without_modules
