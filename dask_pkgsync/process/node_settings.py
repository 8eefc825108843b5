"""What the operator of a node decides about it, and no client."""

from __future__ import annotations

from dataclasses import dataclass

from dask_pkgsync.model.indexes import OWN, Indexes


@dataclass(frozen=True)
class NodeSettings:
    """Settings that the operator of a node decides, and no client."""

    cache_directory: str | None = None
    """Directory of layers and wheels; None for the user's cache directory."""
    max_age: float = 24 * 3600.0
    """Seconds after which an unused layer is removed."""
    max_bytes: int = 50_000_000_000
    """Bytes of all layers together; above it, the layers unused for the longest time are removed."""
    store_bytes: int = 20_000_000_000
    """Bytes that all wheels from clients together may take."""
    indexes: Indexes = OWN
    """Package indexes; if any are set, they replace those that uv, pip or the client are configured with."""
