"""Reads the environments for commands: from this or another interpreter, a file, or standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_pkgsync.options.configured import is_configured

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scanning.snapshot import Snapshot


def this_snapshot(*, modules: bool | list[str] | None = None, **rest: Any) -> Snapshot:
    """Scan this environment, with the loose modules that ``modules`` selects; None: as configured."""
    if not is_configured():
        return _unconfigured_snapshot(modules=modules is None or modules, **rest)
    from dask_pkgsync.options.person import local_snapshot

    return local_snapshot({"modules": modules}, **rest)


def _unconfigured_snapshot(*, modules: bool | list[str], unlimited: bool = False, verify: bool = False) -> Snapshot:
    """Scan as `options.person.local_snapshot` does with the defaults of all options, without importing Dask."""
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.scanning.snapshot import MODULES_LIMIT, PROJECTS_LIMIT, snapshot

    return snapshot(
        modules=modules,
        modules_limit=sys.maxsize if unlimited else MODULES_LIMIT,
        projects_limit=sys.maxsize if unlimited else PROJECTS_LIMIT,
        verify=verify,
        ignores=Policy.of().ignores,
    )


def environment_of(python: str) -> Environment:
    """Scan the environment of another interpreter."""
    from dask_pkgsync.scanning.other_interpreter import scan_other_interpreter
    from dask_pkgsync.scanning.snapshot import with_digests

    return with_digests(scan_other_interpreter(python))


def read_environment(source: str) -> Environment:
    """Read an environment from a file, from standard input (``-``), or from this interpreter (``.``)."""
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scanning.lock_file import text_of

    if source == ".":
        return this_snapshot(verify=True).environment
    try:
        text = text_of(sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error  # str(error) would repeat the path
        raise click.ClickException(f"cannot read {source}: {reason}") from error
    return Environment.from_json(text)


def names_cluster(source: str) -> bool:
    """Whether an argument is the address of a scheduler, or the path of a scheduler file; it imports no Dask."""
    if "://" in source or not source.endswith(".json"):
        return "://" in source
    try:
        data = json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and {"address", "workers"} <= data.keys()


def label(source: str) -> str:
    """Return the heading, in a table, of the environment that `read_environment` reads."""
    return {".": "this environment", "-": "standard input"}.get(source, source)
