"""Programs that install exact versions into a directory: one interface, one file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dask_pkgsync.model.indexes import OWN, Indexes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Installer(Protocol):
    """Makes virtual environments and puts distributions into them. Every method blocks, and raises `LayerError`."""

    @property
    def name(self) -> str:
        """What people call it, for example ``uv``."""

    def make_environment(self, directory: Path, *, timeout: float) -> None:
        """Make an empty virtual environment that can be renamed afterwards."""

    def install(
        self, environment: Path, requirements: Sequence[str], *, final: Path, timeout: float, indexes: Indexes = OWN
    ) -> None:
        """Install pins and wheels (``name @ file:…``), and nothing else, so that scripts work once at ``final``."""

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float, indexes: Indexes = OWN
    ) -> tuple[str, ...]:
        """Return exact pins for requirements and what they depend on, in agreement with the constraints."""
