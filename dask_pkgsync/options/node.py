"""Reads the options of the operator of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import MessageError, PolicyError
from dask_pkgsync.model.indexes import indexes_from_wire
from dask_pkgsync.options.definitions import node as definitions
from dask_pkgsync.options.definitions import person
from dask_pkgsync.options.values import chosen, read

if TYPE_CHECKING:
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.process.node_settings import NodeSettings


def node_settings() -> NodeSettings:
    """Return the settings that the operator of this node has configured."""
    from dask_pkgsync.process.node_settings import NodeSettings  # imported here because clients do not need it

    return NodeSettings(
        read(definitions.CACHE_DIRECTORY),
        read(definitions.CACHE_AGE),
        read(definitions.CACHE_SIZE),
        read(definitions.STORE_SIZE),
        own_indexes(),
    )


def relaunch_timeout() -> float:
    """Return the seconds in which a scheduler that is executed anew must listen; workers have twice the time."""
    return read(definitions.RELAUNCH_TIMEOUT)


def own_indexes() -> Indexes:
    """Return the indexes in dask-pkgsync's configuration, on a node or client; they precede those of uv and pip."""
    try:
        return indexes_from_wire(
            {
                "default": chosen(person.INDEX_URL, {}) or "",
                "extra": chosen(person.EXTRA_INDEX_URLS, {}),
                "find-links": chosen(person.FIND_LINKS, {}),
                "no-index": chosen(person.NO_INDEX, {}),
                "equal": False,
            },
            "pkgsync",
        )
    except MessageError as error:
        raise PolicyError(f"{error.place}: expected {error.expected}, found {error.found!r}") from None
