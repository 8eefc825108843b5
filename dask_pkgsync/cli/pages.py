"""The texts that ``dask pkgsync scan`` prints about an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromConda,
    FromDirectory,
    FromIndex,
    FromModules,
    FromVcs,
)
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.resolutions.substitution import table
from dask_pkgsync.model.text import counted, human_bytes, printable, text_table
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.sources import project_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.origin import Origin
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.resolutions.resolution import Resolution
    from dask_pkgsync.scanning.loose_modules import LooseModule
    from dask_pkgsync.scanning.snapshot import Snapshot
    from dask_pkgsync.scanning.sources import SourceFile


def scan_page(environment: Environment) -> str:
    """Return a table of the packages, followed by the interpreter, the fingerprint and the faults.

    A conda package and its distributions are one row.
    """
    interpreter = environment.interpreter
    of_conda = {name for package in environment.conda.values() for name in package.distributions}
    rows = [
        [
            distribution.name,
            distribution.version,
            distribution.content[:8],
            origin_text(distribution.origin),
            distribution.installer,
        ]
        for distribution in environment.distributions.values()
        if distribution.name not in of_conda or not isinstance(distribution.origin, FromConda)
    ]
    rows += [
        [_name(package), package.version, package.build, package.channel or package.url, "conda"]
        for package in environment.conda.values()
    ]
    rows.sort()
    packages = [(one.name, one.version, one.modified) for one in environment.distributions.values()]
    packages += [(one.name, one.version, one.modified) for one in environment.conda.values()]
    modified = [
        f"  {name} {version}: {counted(count, 'file')} modified here" for name, version, count in packages if count
    ]
    faults = [f"  {fault.kind}: {fault.detail} ({fault.place})" for fault in environment.faults]
    about = (
        f"interpreter  {interpreter.implementation} {interpreter.version} {interpreter.platform} ({interpreter.tag})\n"
        f"packages     {len(rows)}\n"
        f"fingerprint  {environment.fingerprint}"
    )
    parts = [text_table(["package", "version", "build", "origin", "installer"], rows), about]
    if modified:
        parts.append("\n".join(["Modified (they are shipped as they are):", *modified]))
    if faults:
        parts.append("\n".join(["Faults (the distributions they name match no others):", *faults]))
    return "\n\n".join(parts)


def foreseen_page(resolution: Resolution) -> str:
    """Return what nodes of another platform would get that is not as it is here, and how much is."""
    platform, rows = resolution.environment.interpreter.platform, resolution.substitutions
    exact = len(resolution.environment.distributions) - sum(bool(row.got) for row in rows)
    head = f"On {platform}, nodes would get {counted(exact, 'package')} exactly as here"
    return f"{head}, but not these:\n{table(rows)}" if rows else f"{head}."


def _name(package: CondaPackage) -> str:
    """Return the name of a conda package, with those of its distributions if they are called otherwise."""
    others = [name for name in package.distributions if name != package.name]
    return f"{package.name} ({', '.join(others)})" if others else package.name


def origin_text(origin: Origin) -> str:  # noqa: PLR0911  # one for each kind
    """Return the origin of a distribution in a few words."""
    match origin:
        case FromIndex():
            return "index"
        case FromConda(package=package):
            return f"conda package {package}"
        case FromArchive(url=url):
            return url
        case FromVcs(url=url, commit=commit, vcs=vcs):
            return f"{vcs}+{url}@{commit[:12]}"
        case FromModules(url=url):
            return f"loose modules of {url}"
        case FromDirectory(url=url, editable=editable):
            return f"{'editable ' if editable else ''}{url}"
        case _:
            return "unknown"


def files_page(snapshot: Snapshot, policy: Policy) -> str:
    """List the files of local code that would be shipped under a policy, and the files that would not, with reasons."""
    parts = []
    loose: dict[Path, list[LooseModule]] = {}
    for name, distribution in snapshot.environment.distributions.items():
        if policy.rule(name).level is Level.IGNORE:
            continue
        match distribution.origin:
            case FromDirectory(editable=True) as origin:
                directory = source_directory(origin)
                files = project_files(directory) if directory.is_dir() else []
                parts.append(_listing(f"{name} {distribution.label}: built from", directory, files))
            case FromModules():
                module = snapshot.modules[name]
                loose.setdefault(module.directory, []).append(module)
            case FromVcs() | FromArchive() | FromDirectory() as origin:
                parts.append(f"{name} {distribution.label}: as it is installed here ({origin_text(origin)})")
    parts += [_loose(directory, modules) for directory, modules in loose.items()]
    left_out = (*snapshot.left_out, *(entry for entries in snapshot.incomplete.values() for entry in entries))
    if left_out:
        parts.append("\n".join(f"not shipped: {printable(str(path))}: {reason}" for path, reason in left_out))
    return "\n\n".join(parts) or "No local code: every package comes from an index."


def _loose(directory: Path, modules: Sequence[LooseModule]) -> str:
    files = [file for module in modules for file in module.files]
    rows = [
        [f"  {file.path}", human_bytes(file.size), f"{module.distribution.name} {module.distribution.version}"]
        for module in modules
        for file in module.files
    ]
    return "\n".join([_title("loose modules", directory, files), text_table(["  file", "size", "travels as"], rows)])


def _listing(title: str, directory: Path, files: Sequence[SourceFile]) -> str:
    rows = [[f"  {file.path}", human_bytes(file.size)] for file in files]
    return "\n".join([_title(title, directory, files), text_table(["  file", "size"], rows)])


def _title(title: str, directory: Path, files: Sequence[SourceFile]) -> str:
    return f"{title} ({len(files)} files, {human_bytes(sum(file.size for file in files))}) in {directory}"
