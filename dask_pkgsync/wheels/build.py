"""Makes wheels of local code: projects with their own build backend, loose modules without one."""

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

from dask_pkgsync.installers.calls import child_environment, last_words
from dask_pkgsync.installers.find import own_uv
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.sources import copy_to, digest_of, project_files

if TYPE_CHECKING:
    from dask_pkgsync.installers.programs import Finished
    from dask_pkgsync.model.environments.distribution import Distribution


BUILD_TIMEOUT = 600.0
"""Seconds that one build may take, unless configured otherwise."""
_SOURCE_DATE_EPOCH = "315532800"
"""The same date, in seconds since 1970: the earliest that a zip can say."""


def build_project(source: Path, distribution: Distribution, directory: Path, *, timeout: float) -> Path:
    """Build a wheel of a project from a copy of its source, so that nothing is written into it. Blocks.

    Parameters
    ----------
    source : Path
        The directory that holds ``pyproject.toml`` or ``setup.py``.
    distribution : Distribution
        What is installed from there: its version is the one that the wheel has to have.
    directory : Path
        Where the wheel, and everything on the way, is written.
    timeout : float
        Seconds that the build may take.

    Raises
    ------
    WheelError
        If it fails, with the backend's own last words, or if the source is not any more what was scanned.
    """
    label = f"{distribution.name} {distribution.version}"
    if not source.is_dir():
        raise WheelError(label, f"its source directory {source} is not there", advice="Install it again.")
    copy = directory / f"{distribution.name}-{distribution.version}"  # some backends read the version from this name
    files = project_files(source)
    copy_to(files, copy)
    copied = [replace(file, full=copy / file.path) for file in files]
    if digest_of(copied, distribution.name, distribution.version) != distribution.identity:
        advice = "Run the sync again when nothing writes there, or see whether files that .gitignore names matter."
        raise WheelError(label, f"{source} changed between the scan and the build", advice=advice)
    _remember_what_git_knows(source, copy, timeout)
    out = directory / "wheel"
    finished = _build(copy, out, distribution, directory, timeout)
    wheels = sorted(out.glob("*.whl"))
    if finished.returncode or len(wheels) != 1:
        raise WheelError(
            label,
            f"the wheel of the project in {source} could not be built",
            advice=f"Make this work: uv build --wheel {source}",
            last_words=_without_places(last_words(finished.stderr or finished.stdout), copy, source),
        )
    _refuse_another(wheels[0], distribution, source)
    return wheels[0]


def _without_places(text: str, copy: Path, source: Path) -> str:
    """Name the person's own directory, and not those that are gone by now and are others each time."""
    text = text.replace(str(copy), str(source)).replace(str(copy.parent), "…")
    return re.sub(r"\S*/builds-v0/\.tmp\w+", "…", text)


def _remember_what_git_knows(source: Path, copy: Path, timeout: float) -> None:
    """Make the copy of a checkout a checkout: some backends ship the files that git knows, and only those."""
    git = shutil.which("git")
    if git is None or not any((parent / ".git").exists() for parent in (source, *source.parents)):
        return
    listed = run([git, "ls-files", "-z"], timeout=timeout, cwd=source)
    known = [name for name in listed.stdout.split("\0") if name and (copy / name).is_file()]
    if listed.returncode or not known:
        return
    names = copy.parent / "git-files"
    names.write_text("\0".join(known))
    person = ["-c", "user.name=dask-pkgsync", "-c", "user.email=dask-pkgsync@localhost", "-c", "commit.gpgsign=false"]
    for argv in (
        ["init", "--quiet", "--template="],
        ["add", "--force", f"--pathspec-from-file={names}", "--pathspec-file-nul"],
        [*person, "-c", f"core.hooksPath={os.devnull}", "commit", "--quiet", "--message", "copy"],
    ):
        run([git, *argv], timeout=timeout, cwd=copy)


def _build(copy: Path, out: Path, distribution: Distribution, directory: Path, timeout: float) -> Finished:
    """Build as the project says; and if that fails, with what is installed here (undeclared or unreachable needs)."""
    failed: Finished | None = None
    for options in ([], ["--no-build-isolation"]):
        argv = [*_uv(), "build", "--wheel", "--python", sys.executable, "--out-dir", str(out), *options, str(copy)]
        try:
            finished = run(argv, timeout=timeout, env=_environment(distribution, directory), cwd=directory)
        except DeadlineExceededError as error:
            raise WheelError(
                f"{distribution.name} {distribution.version}",
                f"its build {str(error).partition(' ')[2]}",
                advice="See why it hangs, or raise build-timeout.",
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
        raise WheelError("uv", "uv, which builds wheels, is not installed here", advice="Install uv with pip.")
    return [str(program), "--no-progress", "--color", "never"]


def _environment(distribution: Distribution, directory: Path) -> dict[str, str]:
    """Return the environment of a build: reproducible, and with the version that no copy can ask git for."""
    name = distribution.name.upper().replace("-", "_").replace(".", "_")
    version = distribution.version
    return {
        **child_environment(directory),
        "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH,
        f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{name}": version,
        "PDM_BUILD_SCM_VERSION": version,
        "POETRY_DYNAMIC_VERSIONING_BYPASS": version,
        "UV_DYNAMIC_VERSIONING_BYPASS": version,
    }


def _refuse_another(wheel: Path, distribution: Distribution, source: Path) -> None:
    """Refuse a wheel of another name or version than what is installed."""
    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        name, version = "", Version("0")  # type: ignore[assignment]  # no name is empty
    if name != distribution.name or version != Version(distribution.version):
        raise WheelError(
            f"{distribution.name} {distribution.version}",
            f"the project in {source} builds {wheel.name}, but this environment has it in another name or version",
            advice=f"Install it again, so that its metadata is right: pip install -e {source}",
        )


def discard(directory: Path) -> None:
    """Remove it."""
    shutil.rmtree(directory, ignore_errors=True)
