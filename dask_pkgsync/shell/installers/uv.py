"""Installs with uv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.shell.installers.running import call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Uv:
    """uv, with its cache inside ours, so that it links files instead of copying them."""

    program: Path
    """Path of the executable."""
    python: Path
    """The node's interpreter, for which environments are made."""
    cache: Path
    """uv's cache directory."""
    name: str = "uv"

    def common(self) -> list[str]:
        """Return what every call begins with: no configuration of whatever directory we are in, and our cache."""
        return [str(self.program), "--no-config", "--no-progress", "--color", "never", "--cache-dir", str(self.cache)]

    def environment_argv(self, directory: Path) -> list[str]:
        """Return the call that makes a relocatable virtual environment."""
        return [*self.common(), "venv", "--no-project", "--relocatable", "--python", str(self.python), str(directory)]

    def install_argv(self, environment: Path, requirements: Path) -> list[str]:
        """Return the call that installs exact versions."""
        python = environment / "bin" / "python"
        return [*self.common(), "pip", "install", "--no-deps", "--python", str(python), "-r", str(requirements)]

    def resolve_argv(self, requirements: Path, constraints: Path) -> list[str]:
        """Return the call that resolves requirements."""
        options = ["--no-header", "--no-annotate", "--no-strip-markers", "--quiet"]
        return [
            *self.common(),
            *["pip", "compile", str(requirements), "-c", str(constraints), "--python", str(self.python), *options],
        ]

    def make_environment(self, directory: Path, *, timeout: float) -> None:
        """Make an empty virtual environment that can be renamed afterwards."""
        call(self.environment_argv(directory), "install", (), timeout=timeout, temporary=directory.parent)

    def install(self, environment: Path, pins: Sequence[str], *, final: Path, timeout: float) -> None:  # noqa: ARG002
        """Install exact versions; the scripts of a relocatable environment work wherever it is."""
        requirements = environment.parent / "requirements.txt"
        requirements.write_text("\n".join(pins))
        argv = self.install_argv(environment, requirements)
        call(argv, "install", pins, timeout=timeout, temporary=environment.parent)

    def resolve(self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float) -> tuple[str, ...]:
        """Return exact pins for requirements and what they depend on."""
        from dask_pkgsync.shell.installers.resolving import resolving

        with resolving(self.cache, requirements, constraints) as (wanted, bounds):
            argv = self.resolve_argv(wanted, bounds)
            printed = call(argv, "resolve", requirements, timeout=timeout, temporary=wanted.parent)
        lines = (line.partition(";")[0].strip() for line in printed.splitlines())
        return tuple(line for line in lines if "==" in line)
