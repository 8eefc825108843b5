"""The environments of conda's lock files: what py-rattler has read of them, and explicit lists."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.conda import CondaPackage, is_conda_name, is_conda_version
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromConda
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.policy import CRITICAL
from dask_pkgsync.model.wire.names import SHA256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXPLICIT = "@EXPLICIT"
"""The line that makes a list of URLs an explicit one."""
_OTHERWISE = {"dask": "dask-core", "msgpack": "msgpack-python"}
"""The conda packages of critical distributions that have another name."""
_SYSTEMS = {
    "linux-64": "linux-x86_64",
    "linux-aarch64": "linux-aarch64",
    "linux-ppc64le": "linux-ppc64le",
    "osx-64": "macosx-10.13-x86_64",
    "osx-arm64": "macosx-11.0-arm64",
    "win-64": "win-amd64",
}
"""What `sysconfig.get_platform` returns on each platform of conda."""
_URL = re.compile(
    r"(?P<channel>[^\s#]*?)/?(?P<subdir>[a-z0-9_-]+)/(?P<name>[^/\s#]+)-(?P<version>[^-/\s#]+)-(?P<build>[^-/\s#]+?)"
    r"(?:\.conda|\.tar\.bz2)(?:#(?P<digest>(?:sha256:)?[0-9a-f]{32,64}))?"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@]+@|/t/[^/]+(?=/)")


def is_explicit(text: str) -> bool:
    """Whether a text is an explicit list, as ``conda list --explicit`` writes it."""
    return any(line.strip() == EXPLICIT for line in text.splitlines())


def packages_of_explicit(name: str, text: str) -> tuple[CondaPackage, ...]:
    """Return the packages in an explicit list: URLs, with the digest of each archive where one is given.

    Raises
    ------
    PolicyError
        If some lines are no URLs of packages. It lists them all.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    wanted = [(number, line) for number, line in lines if line and not line.startswith(("#", "@"))]
    found, faults = [], []
    for number, line in wanted:
        bare = _CREDENTIALS.sub("", line)
        match = _URL.fullmatch(bare)
        if match is None or not is_conda_name(match["name"]) or not is_conda_version(match["version"]):
            faults.append(f"{name}: line {number}: expected the URL of a conda package, found {bare[:200]!r}")
            continue
        digest = (match["digest"] or "").removeprefix("sha256:")
        found.append(
            CondaPackage(
                match["name"],
                match["version"],
                match["build"],
                subdir=match["subdir"],
                channel=match["channel"],
                url=bare.partition("#")[0],
                sha256=digest if SHA256.fullmatch(digest) else "",
                md5=digest if not SHA256.fullmatch(digest) else "",
                noarch="generic" if match["subdir"] == "noarch" else "",
            )
        )
    if faults:
        raise PolicyError("\n".join(faults[:20]))
    return tuple(found)


def environment_of_packages(
    name: str, packages: Iterable[CondaPackage], pins: Iterable[Distribution], interpreter: Interpreter
) -> Environment:
    """Return the environment of conda packages, with what pip or uv put on top.

    Which distributions a package holds is known of the critical ones only: no lock file says it of all.

    Parameters
    ----------
    name : str
        Path of the file, for messages.
    packages : iterable of CondaPackage
    pins : iterable of Distribution
        What an index has.
    interpreter : Interpreter
        That of this process: its implementation, and its platform if the packages are for every one.

    Raises
    ------
    PolicyError
        If there is no Python among the packages.
    """
    by_name = {package.name: package for package in packages}
    python = by_name.get("python")
    if python is None:
        raise PolicyError(f"{name}: pins no Python, so that it is no environment that a worker could run in")
    platform = _SYSTEMS.get(python.subdir, interpreter.platform)
    held = dict(_critical(by_name))
    owned = [replace(one, distributions=(held[one.name].name,) if one.name in held else ()) for one in by_name.values()]
    tag = interpreter.tag if (interpreter.platform, interpreter.feature_version) == (platform, _feature(python)) else ""
    made = Interpreter(interpreter.implementation, python.version, platform, tag)
    return Environment.of(made, [*held.values(), *pins], conda=owned)


def _feature(python: CondaPackage) -> str:
    return ".".join(python.version.split(".")[:2])


def _critical(by_name: dict[str, CondaPackage]) -> Iterator[tuple[str, Distribution]]:
    """Yield the conda package of each critical distribution, and the distribution."""
    for name in CRITICAL:
        package = by_name.get(_OTHERWISE.get(name, name)) or by_name.get(name)
        if package is not None:
            yield package.name, Distribution(name, package.version, FromConda(package.name), "conda")


def refuse_other_platforms(name: str, platforms: Iterable[str], own: str) -> None:
    """Raise `PolicyError` if a lock file has no packages for a platform.

    Parameters
    ----------
    name : str
        Path of the file, for the message.
    platforms : iterable of str
        Those that it has, for example ``osx-arm64``.
    own : str
        That of this process.
    """
    found = sorted(set(platforms) - {"noarch"})
    if found and own not in found:
        raise PolicyError(f"{name} does not cover this platform: it has {', '.join(found)}, and this is {own}")
