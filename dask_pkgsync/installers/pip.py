"""Installs with pip: the node's own, or the one that ensurepip carries."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from dask_pkgsync.installers import calls as running
from dask_pkgsync.installers.calls import call
from dask_pkgsync.installers.resolving import resolving
from dask_pkgsync.model.indexes import OWN, Indexes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Pip:
    """pip, run by the node's interpreter for an environment that has no pip itself."""

    pip: tuple[str, ...]
    """How it is started: ``(python, "-m", "pip")``, or ``(python, "…/pip-24.0-py3-none-any.whl/pip")``."""
    python: Path
    """The node's interpreter, for which environments are made."""
    cache: Path
    """pip's cache directory."""
    name: str = "pip"

    def environment_argv(self, directory: Path) -> list[str]:
        """Return the call that makes a virtual environment."""
        return [str(self.python), "-m", "venv", "--without-pip", str(directory)]

    def common(self, *before: str) -> list[str]:
        """Return what every call of pip begins with."""
        return [*self.pip, *before, "--disable-pip-version-check", "--no-input", "--cache-dir", str(self.cache)]

    def install_argv(self, environment: Path, requirements: Path, indexes: Indexes = OWN) -> list[str]:
        """Return the call that installs exact versions and wheels."""
        python = environment / "bin" / "python"
        options = ["--no-deps", "--no-compile", "--quiet", "--no-warn-script-location", *index_options(indexes)]
        return [*self.common("--python", str(python)), "install", *options, "-r", str(requirements)]

    def resolve_argv(self, requirements: Path, constraints: Path, indexes: Indexes = OWN) -> list[str]:
        """Return the call that resolves requirements, and prints a report of it."""
        options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-", *index_options(indexes)]
        return [*self.common(), "install", *options, "-r", str(requirements), "-c", str(constraints)]

    def make_environment(self, directory: Path, *, timeout: float) -> None:
        """Make an empty virtual environment."""
        call(self.environment_argv(directory), "install", (), timeout=timeout, temporary=directory.parent)

    def install(
        self, environment: Path, requirements: Sequence[str], *, final: Path, timeout: float, indexes: Indexes = OWN
    ) -> None:
        """Install pins and wheels, and point their scripts to where the environment will be."""
        listed = environment.parent / "requirements.txt"
        listed.write_text("\n".join(requirements))
        argv = self.install_argv(environment, listed, indexes)
        call(argv, "install", requirements, timeout=timeout, temporary=environment.parent)
        relocate(environment, final)

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float, indexes: Indexes = OWN
    ) -> tuple[str, ...]:
        """Return exact pins for requirements and what they depend on."""
        with resolving(self.cache, requirements, constraints) as (wanted, bounds):
            argv = self.resolve_argv(wanted, bounds, indexes)
            printed = call(argv, "resolve", requirements, timeout=timeout, temporary=wanted.parent)
        found = (entry["metadata"] for entry in json.loads(printed)["install"])
        return tuple(sorted(f"{canonicalize_name(entry['name'])}=={entry['version']}" for entry in found))


def index_options(indexes: Indexes) -> list[str]:
    """Return the options that say where packages come from, in the words of pip."""
    return running.index_options(indexes, "--index-url", "--extra-index-url")


def relocate(environment: Path, final: Path) -> None:
    """Rewrite the interpreter that scripts name, and their lines in RECORD, for a directory that will be renamed.

    pip writes the absolute path of the interpreter into scripts; only uv can make relocatable ones.
    """
    before, after = str(environment / "bin").encode(), str(final / "bin").encode()
    changed: dict[str, str] = {}
    for script in (environment / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if content.startswith(b"#!") and before in content:
            content = content.replace(before, after)
            script.write_bytes(content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            changed[script.name] = f"sha256={digest},{len(content)}"
    for record in environment.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        text = record.read_text()
        lines = [_line(line, changed) for line in text.splitlines()]
        if lines != text.splitlines():
            record.write_text("\n".join(lines) + "\n")


def _line(line: str, changed: dict[str, str]) -> str:
    path = line.partition(",")[0]
    directory, _, name = path.rpartition("/")
    return f"{path},{changed[name]}" if directory.endswith("/bin") and name in changed else line
