"""What the operator of a node decides."""

from __future__ import annotations

from dask_pkgsync.options import kinds
from dask_pkgsync.options.option import Option, Whose

CACHE_DIRECTORY = Option(
    "cache-directory",
    kinds.or_null(kinds.TEXT),
    Whose.NODE,
    "Where layers and wheels are kept, on nodes and on clients; null: `dask-pkgsync` in the user's cache directory.",
    default=None,
    default_text="the user's cache directory",
)
CACHE_AGE = Option(
    "cache-age",
    kinds.DURATION_OR_ZERO,
    Whose.NODE,
    "Time after which layers and wheels are removed that nobody used.",
    default="24h",
)
CACHE_SIZE = Option(
    "cache-size",
    kinds.SIZE,
    Whose.NODE,
    "Size of all layers, above which those unused for the longest time are removed.",
    default="50 GB",
)
STORE_SIZE = Option(
    "store-size",
    kinds.SIZE,
    Whose.NODE,
    "Size of all wheels that came from clients, above which those unused for the longest time are removed.",
    "More than that is not taken in.",
    default="20 GB",
)
