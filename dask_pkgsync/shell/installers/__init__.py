"""Programs that install exact versions into a directory: one interface, one file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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

    def install(self, environment: Path, pins: Sequence[str], *, final: Path, timeout: float) -> None:
        """Install exact versions, without what they depend on, so that their scripts work once at ``final``."""

    def resolve(self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float) -> tuple[str, ...]:
        """Return exact pins for requirements and what they depend on, in agreement with the constraints."""
