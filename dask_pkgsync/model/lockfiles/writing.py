"""Writes an environment in the formats of other tools: requirements.txt, environment.yml, conda's explicit list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromConda,
    FromDirectory,
    FromModules,
    FromVcs,
    Unrecorded,
)

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment

FORMATS = ("pylock", "requirements", "environment-yml", "conda-explicit", "json")
"""The formats in which an environment can be written; ``pylock`` is made of requirements by uv."""


@dataclass
class Written:
    """An environment in a format of another tool."""

    lines: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What the format cannot hold, each on one line, with the reason."""

    @property
    def text(self) -> str:
        """The file."""
        return "\n".join([*self.lines, ""])


def requirements_of(environment: Environment, *, without_conda: bool = False) -> Written:
    """Return an environment as the lines of requirements.txt.

    Parameters
    ----------
    environment : Environment
    without_conda : bool
        Whether what belongs to conda packages is left out, as conda has it.
    """
    written = Written()
    for distribution in environment.distributions.values():
        if isinstance(distribution.origin, FromConda) and without_conda:
            continue
        line, reason = _requirement(distribution)
        if reason:
            written.left_out.append(f"{distribution.name} {distribution.version}: {reason}")
        else:
            written.lines.append(line)
        if distribution.modified:
            written.left_out.append(
                f"{distribution.name} {distribution.version}: {distribution.modified} of its files were modified here"
            )
    return written


def _requirement(distribution: Distribution) -> tuple[str, str]:
    """Return the line of a distribution, or why there is none."""
    name, version = distribution.name, distribution.version
    match distribution.origin:
        case FromVcs(url, commit, vcs, subdirectory):
            place = f"#subdirectory={subdirectory}" if subdirectory else ""
            return f"{name} @ {vcs}+{url}@{commit}{place}", ""
        case FromArchive(url, digest):
            kind, _, value = digest.partition("=")
            return f"{name} @ {url}" + (f"#sha256={value}" if kind == "sha256" else ""), ""
        case FromDirectory(url):
            return "", f"it was installed from a directory of this machine, {url}"
        case FromModules(url):
            return "", f"a loose module, in {url}"
        case Unrecorded():
            return "", "nothing records where it was installed from"
        case _:
            return " ".join([f"{name}=={version}", *(f"--hash=sha256:{one}" for one in distribution.hashes)]), ""


def environment_yml_of(environment: Environment) -> Written:
    """Return an environment as environment.yml: conda packages by version and build, the rest for pip."""
    of_pip = requirements_of(environment, without_conda=True)
    packages = list(environment.conda.values())
    channels = dict.fromkeys(package.channel for package in packages if package.channel) or {"conda-forge": None}
    held = [f"{package.name}={package.version}={package.build}" for package in packages]
    if not packages:
        held = [f"python={environment.interpreter.version}"]
    lines = ["channels:", *(f"  - {_quoted(channel)}" for channel in channels), "dependencies:"]
    lines += [f"  - {_quoted(spec)}" for spec in held]
    if of_pip.lines:
        lines += [*(["  - pip"] if "pip" not in environment.conda else []), "  - pip:"]
        lines += [f"      - {_quoted(line)}" for line in of_pip.lines]
    modified = [f"{one.name} {one.label}" for one in packages if one.modified]
    return Written(lines, [*of_pip.left_out, *(f"{text}: files of it were modified here" for text in modified)])


def _quoted(text: str) -> str:
    """Return a text as YAML has it, quoted if it is not plain."""
    is_plain = all(character.isalnum() or character in "._-=+!/" for character in text) and text[0].isalnum()
    return text if is_plain else "'" + text.replace("'", "''") + "'"


def conda_explicit_of(environment: Environment) -> Written:
    """Return the conda packages of an environment as an explicit list, in which each follows what it depends on."""
    platform = next((one.subdir for one in environment.conda.values() if one.subdir != "noarch"), "noarch")
    written = Written([f"# platform: {platform}", "@EXPLICIT"])
    for name in _in_order(environment):
        package = environment.conda[name]
        if not package.url or package.url.startswith("file:"):
            reason = "it came from a file of this machine" if package.url else "its record has no URL"
            written.left_out.append(f"{package.name} {package.label}: {reason}")
            continue
        digest = package.sha256 or package.md5
        written.lines.append(package.url + (f"#{digest}" if digest else ""))
    of_pip = requirements_of(environment, without_conda=True)
    written.left_out += [f"{line}: it is no conda package" for line in of_pip.lines]
    written.left_out += of_pip.left_out
    return written


def _in_order(environment: Environment) -> list[str]:
    """Return the names of the conda packages, each behind those that it depends on, as far as there is no circle."""
    ordered: dict[str, None] = {}
    for first in environment.conda:
        path = [(first, False)]
        visited: set[str] = set()
        while path:
            name, is_done = path.pop()
            if is_done:
                ordered.setdefault(name)
            elif name not in visited and name not in ordered and name in environment.conda:
                visited.add(name)
                needs = [spec.split(" ", 1)[0].lower() for spec in environment.conda[name].depends]
                path += [(name, True), *((needed, False) for needed in reversed(needs))]
    return list(ordered)
