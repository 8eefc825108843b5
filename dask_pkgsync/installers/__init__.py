"""Installers (uv and pip) behind one interface: programs that install exact versions into a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dask_pkgsync.model.indexes import OWN, Indexes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_pkgsync.model.resolutions.question import Pinned, Question


class Installer(Protocol):
    """Installs distributions into virtual environments. Every method blocks, and raises `LayerError` if it fails.

    A ``timeout`` is in seconds, for one run of the program.
    """

    @property
    def name(self) -> str:
        """Name for people, for example ``uv``."""

    def install(
        self, environment: Path, requirements: Sequence[str], *, final: Path, timeout: float, indexes: Indexes = OWN
    ) -> None:
        """Install exactly these pins (``name==version``) and wheels (``name @ file:…``), without their dependencies.

        The scripts will work once the environment has been renamed to ``final``.
        """

    def install_cached(
        self, environment: Path, requirements: Sequence[str], *, final: Path, timeout: float, indexes: Indexes = OWN
    ) -> bool:
        """Install as `install` does, from the installer's cache alone, without asking an index; return whether it did.

        The environment may be half filled if it did not. What the cache has for a pin need not be what the index has:
        call it only for what is verified by its content afterwards.
        """

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float, indexes: Indexes = OWN
    ) -> tuple[str, ...]:
        """Return exact pins for requirements and their dependencies that agree with the constraints."""

    def answer(self, question: Question, *, timeout: float, indexes: Indexes = OWN) -> dict[str, Pinned]:
        """Return what there is for this platform of the packages of a question, by canonical name, in one run."""

    def forget(self, names: Sequence[str], *, work: Path, timeout: float) -> None:
        """Remove distributions from the installer's cache: their files there are no longer those of the wheel.

        Parameters
        ----------
        names : sequence of str
        work : Path
            A directory for temporary files.
        timeout : float
        """
