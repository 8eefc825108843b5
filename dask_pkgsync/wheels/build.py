"""Builds wheels of local projects with their own build backends."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from dask_pkgsync.installers.calls import last_words
from dask_pkgsync.installers.find import own_uv
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.installers.settings import build_environment
from dask_pkgsync.installers.uv import index_variables
from dask_pkgsync.model.child_environment import child_environment
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.configured_indexes import configured_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.sources import copy_to, digest_of, project_files

if TYPE_CHECKING:
    from dask_pkgsync.installers.programs import Finished
    from dask_pkgsync.model.environments.distribution import Distribution


BUILD_TIMEOUT = 600.0
"""Seconds that one build may take, by default."""
_SOURCE_DATE_EPOCH = "315532800"
"""The date of all files in built wheels, in seconds since 1970, so that builds are reproducible: 1980-01-01, the
earliest that a zip archive can hold."""


def build_project(source: Path, distribution: Distribution, directory: Path, *, timeout: float) -> Path:
    """Build a wheel of a project from a copy of its source, so that the build writes nothing into it. Blocks.

    Parameters
    ----------
    source : Path
        The directory that holds ``pyproject.toml`` or ``setup.py``.
    distribution : Distribution
        The distribution that is installed from the project. The wheel must have its name and version.
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
    copy = directory / f"{distribution.name}-{distribution.version}"  # some backends read the version from this name
    files = project_files(source)
    copy_to(files, copy)
    copied = [replace(file, full=copy / file.path) for file in files]
    if digest_of(copied, distribution.name, distribution.version) != distribution.identity:
        advice = "Run the sync again when no program writes there, or name the files that change in .gitignore."
        raise WheelError(label, f"{source} changed between the scan and the build", advice=advice)
    _track_the_same_files(source, copy, timeout)
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
    _check_name_and_version(wheels[0], distribution, source)
    return wheels[0]


def _with_own_paths(text: str, copy: Path, source: Path) -> str:
    """Replace the temporary directories of the build, which are removed after it, by the person's own directory."""
    text = text.replace(str(copy), str(source)).replace(str(copy.parent), "…")
    return re.sub(r"\S*/builds-v0/\.tmp\w+", "…", text)


def _track_the_same_files(source: Path, copy: Path, timeout: float) -> None:
    """Make the copy of a git checkout a git repository: some backends ship only the files that git tracks.

    In the user's checkout, git only reads. In the copy, it reads no configuration of the user, which may run programs.
    """
    git = shutil.which("git")
    if git is None or not any((parent / ".git").exists() for parent in (source, *source.parents)):
        return
    here = child_environment(os.environ)
    reading = [git, "-c", "core.fsmonitor=false", "ls-files", "-z"]
    listed = run(reading, timeout=timeout, env={**here, "GIT_OPTIONAL_LOCKS": "0"}, cwd=source)
    tracked = [name for name in listed.stdout.split("\0") if name and (copy / name).is_file()]
    if listed.returncode or not tracked:
        return
    names = copy.parent / "git-files"
    names.write_text("\0".join(tracked))
    home = str(copy.parent)
    ours = {name: value for name, value in here.items() if not name.startswith("GIT_CONFIG_")}
    ours |= {"HOME": home, "XDG_CONFIG_HOME": home, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": home}
    settings = ["-c", "user.name=dask-pkgsync", "-c", "user.email=dask-pkgsync@localhost", "-c", "commit.gpgsign=false"]
    for argv in (
        ["init", "--quiet", "--template="],
        ["add", "--force", f"--pathspec-from-file={names}", "--pathspec-file-nul"],
        [*settings, "-c", f"core.hooksPath={os.devnull}", "commit", "--quiet", "--message", "copy"],
    ):
        run([git, *argv], timeout=timeout, env=ours, cwd=copy)


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
            env = _environment(distribution, source, directory)
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


def _environment(distribution: Distribution, source: Path, directory: Path) -> dict[str, str]:
    """Return the environment variables of a build: a fixed date, and the version, which the copy's git cannot tell."""
    name = distribution.name.upper().replace("-", "_").replace(".", "_")
    version = distribution.version
    indexes = configured_indexes(source)
    of_pip = index_variables(indexes) if indexes.equal else {}  # uv reads its own by itself
    return {
        **build_environment(directory, {**configured_trust(source), **of_pip}),
        "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH,
        f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{name}": version,
        "PDM_BUILD_SCM_VERSION": version,
        "POETRY_DYNAMIC_VERSIONING_BYPASS": version,
        "UV_DYNAMIC_VERSIONING_BYPASS": version,
    }


def _check_name_and_version(wheel: Path, distribution: Distribution, source: Path) -> None:
    """Raise `WheelError` if a wheel has another name or version than the installed distribution."""
    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        name, version = "", Version("0")  # type: ignore[assignment]  # an empty name, which no distribution has
    if name != distribution.name or version != Version(distribution.version):
        raise WheelError(
            f"{distribution.name} {distribution.version}",
            f"the project in {source} builds {wheel.name}, but this environment has it in another name or version",
            advice=f"Install it again, so that its metadata is right: pip install -e {source}",
        )


def discard(directory: Path) -> None:
    """Remove a directory of a build, or as much of it as can be removed."""
    shutil.rmtree(directory, ignore_errors=True)
