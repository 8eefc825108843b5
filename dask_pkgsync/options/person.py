"""What a person has decided: what is asked of the cluster, and what of this client's environment travels."""

from __future__ import annotations

import getpass
import platform
import re
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.text import printable
from dask_pkgsync.options.definitions import node
from dask_pkgsync.options.definitions import person as definitions
from dask_pkgsync.options.node import own_indexes
from dask_pkgsync.options.places import place
from dask_pkgsync.options.values import chosen, read
from dask_pkgsync.scanning.configured_indexes import configured_indexes, for_nodes
from dask_pkgsync.scanning.snapshot import snapshot
from dask_pkgsync.wheels.fsspec_store import check_store

if TYPE_CHECKING:
    from dask_pkgsync.model.indexes import Indexes
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
"""What names packages in a policy, and may contradict each other."""


def policy_from(options: Options) -> Policy:
    """Make the policy that the options and the configuration ask for."""
    try:
        packages = {option.name: chosen(option, options) for option in _PACKAGES}
        return Policy.of(strict=chosen(definitions.STRICT, options), **packages)
    except PolicyError as error:
        raise _told(error, options) from None


def _told(error: PolicyError, options: Options) -> PolicyError:
    """Return an error about a policy that names the keys, and their files, of what was not given but configured."""
    text = str(error)
    configured = [
        option.key for option in _PACKAGES if options.get(option.name) is None and re.search(rf"\b{option.key}\b", text)
    ]
    head = "pkgsync." if text.partition(":")[0] in configured else ""
    return PolicyError(f"{head}{text}{''.join(dict.fromkeys(map(place, configured)))}")


def scheduler_rule(options: Options) -> str:
    """Return what is to happen when the scheduler has imported another version already."""
    return read(definitions.SCHEDULER, options)


def install_timeout(options: Options) -> float:
    """Return the seconds that one installer may take."""
    return read(definitions.INSTALL_TIMEOUT, options)


def transport(options: Options) -> str:
    """Return where nodes get packages from."""
    return read(definitions.TRANSPORT, options)


def on_conflict(options: Options) -> str:
    """Return what is to happen where another client has set another environment."""
    return read(definitions.ON_CONFLICT, options)


def restart(options: Options) -> str:
    """Return what is to happen to workers that hold what no peer can take."""
    return read(definitions.RESTART, options)


def keep(options: Options) -> bool:
    """Return whether the cluster is to keep the environment when its last client has gone."""
    return read(definitions.KEEP, options)


def store(options: Options) -> str:
    """Return the URL of the store; empty for the scheduler's disk."""
    return check_store(read(definitions.STORE, options) or "")


def syncs_on_connect() -> bool:
    """Return whether ``Client(...)`` syncs, where our preload is among the client's."""
    return read(definitions.ON_CONNECT) == "sync"


def this_person() -> str:
    """Return who this is, for others: the user's name and the machine's."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's number without a name
        user = "somebody"
    return printable(f"{user}@{platform.node()}")[:200]


def client_indexes() -> Indexes:
    """Return the indexes of this client that nodes may use; those that need credentials only if it is configured so."""
    send = read(definitions.SEND_CREDENTIALS)
    own = own_indexes()
    return for_nodes(own if own.configured else configured_indexes(), with_credentials=send)


def local_snapshot(options: Options, *, modules_limit: int | None = None) -> Snapshot:
    """Scan this environment, with the loose modules that the options ask for."""
    modules = read(definitions.MODULES, options)
    limit = read(definitions.MODULES_LIMIT) if modules_limit is None else modules_limit
    return snapshot(modules=modules, modules_limit=limit)


def packer(found: Snapshot) -> Packer:
    """Return what makes wheels of this environment."""
    from dask_pkgsync.cache.directory import open_cache
    from dask_pkgsync.wheels.pack import Packer

    return Packer(found, open_cache(read(node.CACHE_DIRECTORY)), read(definitions.BUILD_TIMEOUT))
