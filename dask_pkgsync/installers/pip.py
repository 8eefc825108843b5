"""Installs with pip: the node's own, or the one inside ensurepip."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from dask_pkgsync.installers.calls import call
from dask_pkgsync.installers.passwords import without_passwords
from dask_pkgsync.installers.resolving import resolving
from dask_pkgsync.installers.settings import installer_environment, listed
from dask_pkgsync.model.indexes import OWN, Indexes
from dask_pkgsync.model.record import entry_of, parse, text_of
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_pkgsync.model.record import Entry
    from dask_pkgsync.model.resolutions.question import Pinned, Question


@dataclass(frozen=True)
class Pip:
    """pip, run by the node's interpreter to install into environments that have no pip themselves."""

    pip: tuple[str, ...]
    """The command that starts it: ``(python, "-m", "pip")``, or ``(python, "…/pip-24.0-py3-none-any.whl/pip")``."""
    python: Path
    """The node's interpreter, for which environments are made."""
    cache: Path
    """pip's cache directory."""
    trust: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that say whom this machine trusts (`scanning.configured_trust`)."""
    name: str = "pip"

    def environment(self, temporary: Path, indexes: Indexes = OWN) -> dict[str, str]:
        """Return the environment variables of pip, with the indexes; their passwords are in a file in a directory."""
        places = (indexes.default, *indexes.extra, *indexes.find_links)
        (default, *others), netrc = without_passwords(places, temporary)
        extra, find_links = others[: len(indexes.extra)], others[len(indexes.extra) :]
        bare = replace(indexes, default=default, extra=tuple(extra), find_links=tuple(find_links))
        return installer_environment(temporary, {**self.trust, **index_variables(bare), **netrc}, indexes)

    def common(self, *before: str) -> list[str]:
        """Return the beginning of every argument vector of pip; ``before`` are options that come first."""
        return [*self.pip, *before, "--disable-pip-version-check", "--no-input", "--cache-dir", str(self.cache)]

    def install_argv(self, environment: Path, requirements: Path, indexes: Indexes = OWN) -> list[str]:
        """Return the argument vector that installs exact versions and wheels."""
        python = environment / "bin" / "python"
        options = ["--no-deps", "--no-compile", "--quiet", "--no-warn-script-location", *index_options(indexes)]
        return [*self.common("--python", str(python)), "install", *options, "-r", str(requirements)]

    def resolve_argv(self, requirements: Path, constraints: Path, indexes: Indexes = OWN) -> list[str]:
        """Return the argument vector that resolves requirements and prints the result as a JSON report."""
        options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-", *index_options(indexes)]
        return [*self.common(), "install", *options, "-r", str(requirements), "-c", str(constraints)]

    def install(
        self, environment: Path, requirements: Sequence[str], *, final: Path, timeout: float, indexes: Indexes = OWN
    ) -> None:
        """Install pins and wheels, and rewrite their scripts for the directory ``final``."""
        pins = environment.parent / "requirements.txt"
        argv = self.install_argv(environment, pins, indexes)
        env = self.environment(environment.parent, indexes)
        hashed = [requirement for requirement in requirements if " --hash" in requirement]
        # pip demands hashes of all requirements that it gets together with one that has them
        for part in filter(None, (hashed, [one for one in requirements if one not in hashed])):
            pins.write_text("\n".join(part))
            call(argv, "install", part, timeout=timeout, temporary=environment.parent, env=env)
        relocate(environment, final)

    def install_cached(
        self, environment: Path, requirements: Sequence[str], *, final: Path, timeout: float, indexes: Indexes = OWN
    ) -> bool:
        """Do nothing: pip has no way to install by what it has kept alone."""
        del environment, requirements, final, timeout, indexes
        return False

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float, indexes: Indexes = OWN
    ) -> tuple[str, ...]:
        """Return exact pins for requirements and their dependencies."""
        with resolving(self.cache, requirements, constraints) as (inputs, bounds):
            argv = self.resolve_argv(inputs, bounds, indexes)
            env = self.environment(inputs.parent, indexes)
            report = call(argv, "resolve", requirements, timeout=timeout, temporary=inputs.parent, env=env)
        resolved = (entry["metadata"] for entry in json.loads(report)["install"])
        return tuple(sorted(f"{canonicalize_name(entry['name'])}=={entry['version']}" for entry in resolved))

    def answer(self, question: Question, *, timeout: float, indexes: Indexes = OWN) -> dict[str, Pinned]:
        """Raise `LayerError`: pip knows neither preferences nor overrides."""
        del question, timeout, indexes
        raise LayerError(
            "resolve",
            f"{self.python} has no uv, which finds the versions of the client's packages that exist for this platform",
            advice="Install uv on that node, or let it reach an index that has uv.",
        )

    def forget(self, names: Sequence[str], *, work: Path, timeout: float) -> None:
        """Do nothing: pip keeps wheels packed, so that no file of its cache is in a layer."""


def index_options(indexes: Indexes) -> list[str]:
    """Return pip's options for the indexes, which hold no URL: other users of the machine see command lines."""
    return ["--no-index"] if indexes.no_index else []


def index_variables(indexes: Indexes) -> dict[str, str]:
    """Return pip's environment variables for the URLs of the indexes."""
    said = {
        "PIP_INDEX_URL": listed([indexes.default], " "),
        "PIP_EXTRA_INDEX_URL": listed(indexes.extra, " "),
        "PIP_FIND_LINKS": listed(indexes.find_links, " "),
    }
    return {name: value for name, value in said.items() if value}


def relocate(environment: Path, final: Path) -> None:
    """Rewrite the interpreter's path in scripts, and their lines in RECORD, for a directory that will be renamed.

    pip writes the absolute path of the interpreter into scripts; only uv can make relocatable scripts.
    """
    before, after = str(environment / "bin").encode(), str(final / "bin").encode()
    changed: dict[str, bytes] = {}
    for script in (environment / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if content.startswith(b"#!") and before in content:
            changed[script.name] = content.replace(before, after)
            script.write_bytes(changed[script.name])
    for record in environment.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        entries = parse(record.read_text(encoding="utf-8"))
        moved = [_moved(entry, changed) for entry in entries]
        if moved != entries:
            record.write_text(text_of(moved), encoding="utf-8")


def _moved(entry: Entry, changed: dict[str, bytes]) -> Entry:
    """Return a line of RECORD, with the new digest and size if it is that of a changed script."""
    directory, _, name = entry.path.rpartition("/")
    return entry_of(entry.path, changed[name]) if directory.endswith("/bin") and name in changed else entry
