"""Reads the options of a user: which target the client asks for, and which local code and indexes it sends."""

from __future__ import annotations

import getpass
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.policy import Level, Policy
from dask_pkgsync.model.text import printable
from dask_pkgsync.options.definitions import node
from dask_pkgsync.options.definitions import person as definitions
from dask_pkgsync.options.node import own_indexes
from dask_pkgsync.options.places import place
from dask_pkgsync.options.values import chosen, read
from dask_pkgsync.scanning.conda_meta import prefix_on
from dask_pkgsync.scanning.configured_indexes import configured_indexes, for_nodes
from dask_pkgsync.scanning.snapshot import snapshot
from dask_pkgsync.wheels.fsspec_store import check_store

if TYPE_CHECKING:
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.reports.discrepancies import Discrepancy
    from dask_pkgsync.options.keywords import Options
    from dask_pkgsync.scanning.snapshot import Snapshot
    from dask_pkgsync.wheels.pack import Packer

_PACKAGES = (
    definitions.IGNORE,
    definitions.ONLY,
    definitions.EXTRA,
    definitions.PLATFORM_SPECIFIC,
    definitions.LEVELS,
)
"""The options of a policy that name packages, and so may contradict each other."""


def policy_from(options: Options) -> Policy:
    """Make the policy from the given options and the configuration."""
    try:
        packages = {option.name: chosen(option, options) for option in _PACKAGES}
        return Policy.of(
            strict=chosen(definitions.STRICT, options), builds=read(definitions.BUILDS, options), **packages
        )
    except PolicyError as error:
        raise _with_places(error, options) from None


def _with_places(error: PolicyError, options: Options) -> PolicyError:
    """Return the error of a policy with the keys, and the files or variables, of the options that were configured."""
    text = str(error)
    configured = [
        option.key for option in _PACKAGES if options.get(option.name) is None and re.search(rf"\b{option.key}\b", text)
    ]
    head = "pkgsync." if text.partition(":")[0] in configured else ""
    return PolicyError(f"{head}{text}{''.join(dict.fromkeys(map(place, configured)))}")


def scheduler_rule(options: Options) -> str:
    """Return ``warn`` or ``refuse``: what happens if the scheduler has already imported another version."""
    return read(definitions.SCHEDULER, options)


def install_timeout(options: Options) -> float:
    """Return the seconds that one run of an installer may take on a node."""
    return read(definitions.INSTALL_TIMEOUT, options)


def transport(options: Options) -> str:
    """Return where nodes get packages from: ``auto``, ``index`` or ``client``."""
    return read(definitions.TRANSPORT, options)


def on_conflict(options: Options) -> str:
    """Return ``refuse``, ``wait`` or ``replace``: what happens if another client's environment conflicts."""
    return read(definitions.ON_CONFLICT, options)


def restart(options: Options) -> str:
    """Return ``drained`` or ``now``: what happens to workers with results that no other worker can take."""
    return read(definitions.RESTART, options)


def relaunch(options: Options) -> str:
    """Return ``never``, ``idle`` or ``now``: whether the cluster may be executed anew in another interpreter."""
    return read(definitions.RELAUNCH, options)


def keep(options: Options) -> bool:
    """Return whether the cluster keeps the environment when its last client has disconnected."""
    return read(definitions.KEEP, options)


def store(options: Options) -> str:
    """Return the URL of the store of the client's wheels; empty for the scheduler's disk."""
    return check_store(read(definitions.STORE, options) or "")


def syncs_on_connect() -> bool:
    """Return whether ``Client(...)`` syncs, if ``dask_pkgsync.preload`` is a preload of the client."""
    return read(definitions.ON_CONNECT) == "sync"


def this_person() -> str:
    """Return the names of the user and the host, for example ``ann@laptop``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in some containers
        user = "somebody"
    return printable(f"{user}@{platform.node()}")[:200]


def client_indexes() -> Indexes:
    """Return the client's indexes that nodes can use; with credentials only if ``send-credentials`` is set."""
    with_credentials = read(definitions.SEND_CREDENTIALS)
    own = own_indexes()
    return for_nodes(own if own.configured else configured_indexes(), with_credentials=with_credentials)


def local_snapshot(options: Options, *, unlimited: bool = False, verify: bool = False) -> Snapshot:
    """Scan this environment, with the loose modules that the option ``modules`` selects; see `snapshot`.

    The source of editable projects that the policy ignores is not read.
    """
    policy = policy_from(options)
    return snapshot(
        modules=read(definitions.MODULES, options),
        modules_limit=sys.maxsize if unlimited else read(definitions.MODULES_LIMIT),
        projects_limit=sys.maxsize if unlimited else read(definitions.PROJECTS_LIMIT),
        verify=verify,
        ignores=lambda name: policy.rule(name).level is Level.IGNORE,
    )


def age_in_store() -> float:
    """Return the seconds for which a wheel that was not needed again stays in a store."""
    return float(read(node.CACHE_AGE))


def with_imported_modules(
    scanned: Snapshot, options: Options, policy: Policy
) -> tuple[Snapshot, tuple[Discrepancy, ...]]:
    """Return a snapshot with all that this process has imported, and what the nodes will lack or have otherwise.

    Loose modules that the scan has passed over are added, unless the option ``modules`` lists what to ship.
    """
    from dask_pkgsync.scanning.imported_modules import accounted

    limit = read(definitions.MODULES_LIMIT) if read(definitions.MODULES, options) is True else None
    return accounted(scanned, policy, limit=limit)


def cache_root() -> str:
    """Return the path of the client's cache directory, which is made if it is missing. Blocks.

    Raises
    ------
    LayerError
        If it cannot be used.
    """
    from dask_pkgsync.cache.directory import open_cache

    return str(open_cache(read(node.CACHE_DIRECTORY), programs=False).root)


def packer(scanned: Snapshot) -> Packer:
    """Return the packer that makes wheels, and archives of conda packages, of what is in a snapshot."""
    from dask_pkgsync.cache.directory import open_cache
    from dask_pkgsync.conda.archives import ArchivePacker
    from dask_pkgsync.interpreters.packing import InterpreterPacker
    from dask_pkgsync.wheels.pack import Packer

    cache, timeout = open_cache(read(node.CACHE_DIRECTORY), programs=False), read(definitions.BUILD_TIMEOUT)
    prefix = prefix_on([entry for entry in sys.path if isinstance(entry, str)])
    archives = ArchivePacker(scanned.environment.conda, Path(prefix.root), cache, timeout) if prefix else None
    interpreter = InterpreterPacker(scanned.environment.interpreter, cache, timeout)
    return Packer(scanned, cache, timeout, archives.pack if archives else None, interpreter.pack)
