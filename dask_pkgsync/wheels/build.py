"""Builds wheels of local projects with their own build backends."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from dask_pkgsync.installers.calls import last_words
from dask_pkgsync.installers.find import own_uv
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.installers.settings import build_environment
from dask_pkgsync.installers.uv import index_variables
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.build_files import build_text
from dask_pkgsync.scanning.configured_indexes import configured_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.sources import copy_to, digest_of, project_files
from dask_pkgsync.wheels.checkout import make_checkout
from dask_pkgsync.wheels.reversion import with_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.installers.programs import Finished
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.scanning.sources import SourceFile


BUILD_TIMEOUT = 600.0
"""Seconds that one build may take, by default."""
_SOURCE_DATE_EPOCH = "315532800"
"""The date of all files in built wheels, in seconds since 1970, so that builds are reproducible: 1980-01-01, the
earliest that a zip archive can hold."""
_VERSION_VARIABLES = {
    "hatch-vcs": "SETUPTOOLS_SCM_PRETEND_VERSION",  # it does not tell setuptools-scm the name of the project
    "pbr": "PBR_VERSION",
    "pdm-backend": "PDM_BUILD_SCM_VERSION",
    "pdm-pep517": "PDM_PEP517_SCM_VERSION",
    "poetry-dynamic-versioning": "POETRY_DYNAMIC_VERSIONING_BYPASS",
    "uv-dynamic-versioning": "UV_DYNAMIC_VERSIONING_BYPASS",
}
"""Variables that give tools the version, by the tool: it holds for all projects that are built meanwhile, so that only
the tools that the project names get it. Other tools read the version from the tag of the copy."""


@dataclass(frozen=True)
class Built:
    """A wheel that was built from a project."""

    path: Path
    note: str = ""
    """What a person should know about it; empty if there is nothing."""


def build_project(source: Path, distribution: Distribution, directory: Path, *, timeout: float) -> Built:
    """Build a wheel of a project from a copy of its source, so that the build writes nothing into it. Blocks.

    The wheel has the version that is installed, whatever the source says now.

    Parameters
    ----------
    source : Path
        The directory that holds ``pyproject.toml`` or ``setup.py``.
    distribution : Distribution
        The distribution that is installed from the project. The wheel must have its name.
    directory : Path
        The directory for the copy, the wheel, and all other files of the build.
    timeout : float
        Seconds that the build may take.

    Raises
    ------
    WheelError
        If the build fails, with the last lines of the backend's output, or if the source has changed since the scan.
    """
    label = f"{distribution.name} {distribution.version}"
    if not source.is_dir():
        raise WheelError(label, f"its source directory {source} does not exist", advice="Install it again.")
    files = project_files(source)
    copy = _place(directory, files, f"{distribution.name}-{distribution.version}")
    copied = copy_to(files, copy)
    if digest_of(copied, distribution.name, distribution.version) != distribution.identity:
        advice = "Run the sync again when no program writes there; what programs write belongs outside of the packages."
        raise WheelError(label, f"{source} changed between the scan and the build", advice=advice)
    if not make_checkout(copy, source, distribution.version, timeout=timeout):
        (copy / ".gitignore").touch()  # backends obey the next one above the copy, up to the top of its checkout
    out = directory / "wheel"
    finished = _build(source, copy, out, distribution, directory, timeout)
    wheels = sorted(out.glob("*.whl"))
    if finished.returncode or len(wheels) != 1:
        raise WheelError(
            label,
            f"the wheel of the project in {source} could not be built",
            advice=f"Make this command work: uv build --wheel {source}",
            last_words=_with_own_paths(last_words(finished.stderr or finished.stdout), copy, source),
        )
    return _of_installed_version(wheels[0], distribution, source)


def _place(directory: Path, files: Sequence[SourceFile], name: str) -> Path:
    """Return the path of the copy: so deep that the files beside the project lie in the directory, too.

    Some backends read the version from the last part of the path.
    """
    depth = max((file.path.split("/").count("..") for file in files), default=0)
    return directory.joinpath("source", *("above" for _ in range(depth)), name)


def _with_own_paths(text: str, copy: Path, source: Path) -> str:
    """Replace the temporary directories of the build, which are removed after it, by the person's own directory."""
    text = text.replace(str(copy), str(source)).replace(str(copy.parent), "…")
    return re.sub(r"\S*/builds-v0/\.tmp\w+", "…", text)


def _build(
    source: Path, copy: Path, out: Path, distribution: Distribution, directory: Path, timeout: float
) -> Finished:
    """Build in isolation; if that fails, build with the packages that are installed here.

    The second try helps a project whose build requirements are not declared, or not reachable.
    """
    failed: Finished | None = None
    for options in ([], ["--no-build-isolation"]):
        argv = [*_uv(), "build", "--wheel", "--python", sys.executable, "--out-dir", str(out), *options, str(copy)]
        try:
            env = _environment(distribution, source, copy, directory)
            finished = run(argv, timeout=timeout, env=env, cwd=directory)
        except DeadlineExceededError as error:
            raise WheelError(
                f"{distribution.name} {distribution.version}",
                f"its build {str(error).partition(' ')[2]}",
                advice="Find out why it hangs, or raise build-timeout.",
                last_words=last_words(error.stderr),
            ) from None
        if finished.returncode == 0:
            return finished
        failed = failed or finished
    assert failed is not None  # noqa: S101  # the loop ran
    return failed


def _uv() -> list[str]:
    program = own_uv(Path(sys.executable))
    if program is None:
        raise WheelError(
            "uv", "uv, which builds the wheels, is not installed on the client", advice="Install uv with pip."
        )
    return [str(program), "--no-progress", "--color", "never"]


def _environment(distribution: Distribution, source: Path, copy: Path, directory: Path) -> dict[str, str]:
    """Return the environment variables of a build: a fixed date, and the version, for tools that read it there."""
    name = distribution.name.upper().replace("-", "_")
    text = build_text(copy)
    named = [tool for tool in _VERSION_VARIABLES if re.search(rf"\b{tool.replace('-', '[-_.]')}\b", text)]
    indexes = configured_indexes(source)
    of_pip = index_variables(indexes) if indexes.equal else {}  # uv reads its own by itself
    return {
        **build_environment(directory, {**configured_trust(source), **of_pip}),
        "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH,
        f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{name}": distribution.version,
        **{_VERSION_VARIABLES[tool]: distribution.version for tool in named},
    }


def _of_installed_version(wheel: Path, distribution: Distribution, source: Path) -> Built:
    """Return a wheel with the installed version; raise `WheelError` if it is of another distribution."""
    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        name, version = "", Version("0")  # type: ignore[assignment]  # an empty name, which no distribution has
    if name != distribution.name:
        raise WheelError(
            f"{distribution.name} {distribution.version}",
            f"the project in {source} builds {wheel.name}, but this environment has it in another name",
            advice=f"Install it again, so that its metadata is right: pip install -e {source}",
        )
    if distribution.same_version(str(version)):
        return Built(wheel)
    note = (
        f"{distribution.name} {distribution.version}: the source on the client says version {version} now; shipped as "
        f"{distribution.version}, which is installed there (install it again to change that)"
    )
    return Built(with_version(wheel, distribution.version), note)


def discard(directory: Path) -> None:
    """Remove a directory of a build, or as much of it as can be removed."""
    shutil.rmtree(directory, ignore_errors=True)
