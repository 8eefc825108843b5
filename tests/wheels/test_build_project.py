"""Wheels of local projects are built from a copy, and nothing of the user's is written."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.scanning.sources import digest_of, project_files
from dask_pkgsync.wheels.build import build_project

if TYPE_CHECKING:
    from pathlib import Path

COMMITS = """
import subprocess, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    git = ["git", "-c", "core.hooksPath=/", "-c", "core.fsmonitor=false", "-c", "user.name=x", "-c", "user.email=x"]
    tracked = subprocess.run([*git, "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run([*git, "commit", "--allow-empty", "-qam", "by a backend"], check=True)
    files = {
        "mine.py": open("mine.py").read(),
        "tracked.txt": " ".join(tracked),
        "mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n",
        "mine-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files["mine-1.0.dist-info/RECORD"] = "".join(name + ",,\\n" for name in [*files, "mine-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(directory + "/mine-1.0-py3-none-any.whl", "w") as bundle:
        for name, text in files.items():
            bundle.writestr(name, text)
    return "mine-1.0-py3-none-any.whl"
"""
"""A build backend that asks git for the tracked files, and even makes a commit."""
FILES = {
    "pyproject.toml": '[build-system]\nrequires=[]\nbuild-backend="backend"\nbackend-path=["."]\n'
    '[project]\nname="mine"\nversion="1.0"\n',
    "backend.py": COMMITS,
    "mine.py": "V = 1\n",
}


def git(directory: Path, *argv: str) -> None:
    """Call git as the user does."""
    subprocess.run(["git", "-c", "user.name=me", "-c", "user.email=me@here", *argv], cwd=directory, check=True)


def state(directory: Path) -> dict[str, str]:
    """Return the digest of every file below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory with a checkout that has an unfinished edit, another repository, and hooks for all."""
    home = tmp_path / "home"
    for name in ("project", "other"):
        (home / name).mkdir(parents=True)
        for file, text in FILES.items():
            (home / name / file).write_text(text)
        git(home / name, "init", "-q", "--template=")
        git(home / name, "add", "-A")
        git(home / name, "commit", "-qm", "first")
    (home / "project" / "mine.py").write_text("V = 2  # unfinished\n")
    (home / "project" / "untracked.py").write_text("")
    hooks = home / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-commit", "post-index-change", "fsmonitor", "filter"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {home}/hooks-ran\n")
        (hooks / name).chmod(0o755)
    (home / ".gitconfig").write_text(
        f'[core]\nhooksPath = {hooks}\nfsmonitor = {hooks}/fsmonitor\n[filter "f"]\nclean = {hooks}/filter\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of uv itself
    return home


@pytest.mark.parametrize("repository", ["project", "other"])
def test_a_build_writes_no_repository_of_the_user(
    repository: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever git's variables point (a hook, a linked worktree, direnv): to the project itself or to another one."""
    source, named = home / "project", home / repository
    for name, value in {
        "GIT_DIR": named / ".git",
        "GIT_WORK_TREE": named,
        "GIT_INDEX_FILE": named / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": named / ".git" / "objects",
        "GIT_COMMON_DIR": named / ".git",
        "GIT_TRACE": home / "trace",
        "GIT_CONFIG": home / ".gitconfig",
        "GIT_PREFIX": "x/",
    }.items():
        monkeypatch.setenv(name, str(value))
    before, work = state(home), tmp_path / "work"
    work.mkdir()
    origin = FromDirectory(source.as_uri(), True, digest_of(project_files(source), "mine", "1.0"))
    built = build_project(source, Distribution("mine", "1.0", origin), work, timeout=300)
    with zipfile.ZipFile(built.path) as bundle:
        assert bundle.read("mine.py") == b"V = 2  # unfinished\n"
        assert bundle.read("tracked.txt").split() == [b"backend.py", b"mine.py", b"pyproject.toml", b"untracked.py"]
    assert state(home) == before
