"""The options that the operator of a node sets."""

from __future__ import annotations

from dask_pkgsync.options import kinds
from dask_pkgsync.options.option import Option, Whose

CACHE_DIRECTORY = Option(
    "cache-directory",
    kinds.or_null(kinds.TEXT),
    Whose.NODE,
    "Directory of the layers and wheels, on nodes and on clients; null: `dask-pkgsync` in the user's cache directory.",
    default=None,
    default_text="the user's cache directory",
)
RELAUNCH_TIMEOUT = Option(
    "relaunch-timeout",
    kinds.DURATION,
    Whose.NODE,
    "Time within which a scheduler that is executed anew in another interpreter must listen; workers must have "
    "registered within twice that time. Else what ran before is executed again.",
    default="60s",
)
CACHE_AGE = Option(
    "cache-age",
    kinds.DURATION_OR_ZERO,
    Whose.NODE,
    "Time after which unused layers and wheels are removed.",
    default="24h",
)
CACHE_SIZE = Option(
    "cache-size",
    kinds.SIZE,
    Whose.NODE,
    "Size of all layers above which the layers that have been unused for the longest time are removed.",
    default="50 GB",
)
STORE_SIZE = Option(
    "store-size",
    kinds.SIZE,
    Whose.NODE,
    "Size of all wheels from clients above which the wheels that have been unused for the longest time are removed.",
    "A wheel that does not fit is refused.",
    default="20 GB",
)
