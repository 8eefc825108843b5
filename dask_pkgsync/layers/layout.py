"""The layout of a virtual environment for the Python of this process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


LIBRARY = f"python{sys.version_info[0]}.{sys.version_info[1]}{'t' if 't' in getattr(sys, 'abiflags', '') else ''}"
"""The directory in ``lib`` of a prefix that holds its site-packages; ``t`` is for Pythons without a global lock."""

SITE_PACKAGES = f"lib/{LIBRARY}/site-packages"
"""The directory of the distributions in a prefix."""


class VirtualEnvironment:
    """A virtual environment, by its directory."""

    root: Path
    """Its directory."""

    @staticmethod
    def at(root: Path) -> VirtualEnvironment:
        """Return the environment in a directory."""
        environment = VirtualEnvironment()
        environment.root = root
        return environment

    @property
    def bin(self) -> Path:
        """Directory of its scripts."""
        return self.root / "bin"

    @property
    def python(self) -> Path:
        """Path of its interpreter."""
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        """Directory of its distributions."""
        return self.root / SITE_PACKAGES
