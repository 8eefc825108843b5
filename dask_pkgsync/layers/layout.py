"""The layout of a virtual environment, or of a prefix, for an interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from pathlib import Path

    from dask_pkgsync.model.environments.interpreter import Interpreter


def library_of(interpreter: Interpreter) -> str:
    """Return the directory in ``lib`` of a prefix that holds the site-packages of an interpreter.

    For example ``python3.12``, ``python3.13t`` (a Python without a global lock), or ``pypy3.10``.
    """
    name = "python" if interpreter.implementation == "cpython" else interpreter.implementation
    return f"{name}{interpreter.feature_version}{'t' if interpreter.is_free_threaded else ''}"


LIBRARY = library_of(this_interpreter())
"""That of the interpreter of this process."""


class VirtualEnvironment:
    """A virtual environment, by its directory."""

    root: Path
    """Its directory."""
    python_directory: str
    """The directory in ``lib`` that holds its site-packages (`library_of`)."""

    @staticmethod
    def at(root: Path, python_directory: str = LIBRARY) -> VirtualEnvironment:
        """Return the environment in a directory."""
        environment = VirtualEnvironment()
        environment.root, environment.python_directory = root, python_directory
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
        return self.root / site_packages_in(self.python_directory)


def site_packages_in(python_directory: str) -> str:
    """Return the directory of the distributions relative to a prefix."""
    return f"lib/{python_directory}/site-packages"


SITE_PACKAGES = site_packages_in(LIBRARY)
"""That of the interpreter of this process."""
