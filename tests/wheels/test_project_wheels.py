"""What is built from local projects is what is installed here: the same version, and the same files."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from clusters import uv

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import BlobRequest
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.snapshot import Snapshot, with_digests
from dask_pkgsync.wheels.inspection import inspect
from dask_pkgsync.wheels.pack import Packer


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below a directory."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def git(directory: Path, *argv: str) -> None:
    """Call git."""
    settings = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *settings, *argv], cwd=directory, check=True, capture_output=True)


def commit(directory: Path, *tags: str) -> None:
    """Make a directory a checkout, and tag its commit."""
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"], *(["tag", tag] for tag in tags)):
        git(directory, *argv)


def packed(root: Path, cache: Path, version: str = "1.0", name: str = "mine") -> tuple[zipfile.ZipFile, str]:
    """Pack the wheel of a project that is installed in a version; return it, and the note for people."""
    origin = FromDirectory(root.as_uri(), editable=True)
    environment = with_digests(Environment.of(this_interpreter(), [Distribution(name, version, origin)]))
    assert not environment.faults
    one = environment.distributions[name]
    blob, path = Packer(Snapshot(environment), open_cache(str(cache))).pack(BlobRequest(name, version, one.identity))
    inspect(path, name=name, version=version)
    return zipfile.ZipFile(path), blob.note


def project(backend: str, requires: str, more: str = "", **project: str) -> str:
    """Return a pyproject.toml whose version the backend finds out."""
    return (
        f"[build-system]\nrequires = [{requires}]\nbuild-backend = {backend!r}\n"
        f'[project]\nname = "mine"\ndynamic = ["version"]\n{more}'
    )


SETUPTOOLS = "setuptools.build_meta"
FLAT = '[tool.setuptools]\npackages = ["mine"]\n'
VERSIONEER = (
    "import versioneer\nfrom setuptools import setup\n"
    "setup(version=versioneer.get_version(), cmdclass=versioneer.get_cmdclass())\n"
)
BY_GIT = {
    "setuptools-scm": project(SETUPTOOLS, '"setuptools", "setuptools-scm"', FLAT + "[tool.setuptools_scm]\n"),
    "setuptools-git-versioning": project(
        SETUPTOOLS,
        '"setuptools", "setuptools-git-versioning"',
        FLAT + "[tool.setuptools-git-versioning]\nenabled = true\n",
    ),
    "versioningit": project(
        SETUPTOOLS,
        '"setuptools", "versioningit"',
        FLAT + '[tool.versioningit.write]\nfile = "mine/_version.py"\n',
    ),
    "hatch-vcs": project(
        "hatchling.build",
        '"hatchling", "hatch-vcs"',
        '[tool.hatch.version]\nsource = "vcs"\n[tool.hatch.build.hooks.vcs]\nversion-file = "mine/_version.py"\n',
    ),
    "uv-dynamic-versioning": project(
        "hatchling.build",
        '"hatchling", "uv-dynamic-versioning"',
        '[tool.hatch.version]\nsource = "uv-dynamic-versioning"\n',
    ),
    "pdm-backend": project("pdm.backend", '"pdm-backend"', '[tool.pdm.version]\nsource = "scm"\n'),
    "poetry-dynamic-versioning": project(
        "poetry_dynamic_versioning.backend",
        '"poetry-core", "poetry-dynamic-versioning>=1,<2"',
        '[tool.poetry]\nversion = "0.0.0"\n[tool.poetry-dynamic-versioning]\nenable = true\n',
    ),
    "versioneer": project(
        SETUPTOOLS,
        '"setuptools", "versioneer[toml]==0.29"',
        FLAT + '[tool.versioneer]\nVCS = "git"\nstyle = "pep440"\nversionfile_source = "mine/_version.py"\n'
        'versionfile_build = "mine/_version.py"\ntag_prefix = "v"\nparentdir_prefix = "mine-"\n',
    ),
    "pbr": project("pbr.build", '"setuptools", "pbr>=6"', FLAT),
}


@pytest.mark.parametrize("tool", BY_GIT)
def test_a_version_that_a_tool_finds_by_git_is_the_installed_one(tool: str, tmp_path: Path) -> None:
    """Whichever tool asks git, though the checkout has moved on, and has files that git does not know."""
    version = "2.5.1.dev3+g1a2b3c4.d20260101"
    root = write(tmp_path / "project", {"pyproject.toml": BY_GIT[tool], "mine/__init__.py": "x = 1\n"})
    if tool == "pbr":
        write(root, {"setup.cfg": "[metadata]\nname = mine\n[files]\npackages = mine\n"})
    if tool == "versioneer":
        write(root, {"setup.py": VERSIONEER, "setup.cfg": ""})
        git(root, "init", "-q")
        install = ["versioneer", "install", "--no-vendor"]
        uv(["--directory", str(root), "tool", "run", "--from", "versioneer[toml]==0.29", *install])
    commit(root, "v2.5.0")
    write(root, {"mine/__init__.py": "x = 2\n", "mine/new.py": "x = 3\n"})
    git(root, "commit", "-qam", "two")
    wheel, note = packed(root, tmp_path / "cache", version)
    assert note == ""
    assert {"mine/__init__.py", "mine/new.py"} <= set(wheel.namelist())
    if "mine/_version.py" in wheel.namelist():
        namespace: dict[str, Any] = {}
        exec(wheel.read("mine/_version.py"), namespace)
        assert version in (namespace.get("__version__"), namespace.get("get_versions", dict)().get("version"))


STATIC = '[project]\nname = "mine"\nversion = "1.0"\n'
BACKENDS = {
    "hatchling": '"hatchling"]\nbuild-backend = "hatchling.build"\n',
    "setuptools": f'"setuptools"]\nbuild-backend = "{SETUPTOOLS}"\n{FLAT}'
    '[tool.setuptools.package-data]\nmine = ["*.pkl"]\n',
    "poetry": '"poetry-core>=2"]\nbuild-backend = "poetry.core.masonry.api"\n',
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_git_ignores_in_a_package_is_in_its_wheel(backend: str, tmp_path: Path) -> None:
    """A model and generated code, whichever backend obeys .gitignore, in the project or above the copy."""
    files = {
        "pyproject.toml": f"{STATIC}[build-system]\nrequires = [{BACKENDS[backend]}",
        ".gitignore": "*.pkl\n_generated.py\n",
        "mine/__init__.py": "",
    }
    root = write(tmp_path / "project", files)
    commit(root)
    write(root, {"mine/model.pkl": "weights", "mine/_generated.py": "x = 1"})
    write(tmp_path, {".gitignore": "*\n"})
    wheel, _ = packed(root, tmp_path / "cache")
    assert {"mine/__init__.py", "mine/model.pkl", "mine/_generated.py"} <= set(wheel.namelist())
    assert not (root / "dist").exists()


def test_files_beside_a_project_are_built_into_it(tmp_path: Path) -> None:
    """As in a monorepo, from where the project lies; the wheel is the same wherever it is built."""
    files = {
        "pyproject.toml": f"{STATIC}[build-system]\nrequires = [{BACKENDS['hatchling']}"
        '[tool.hatch.build.targets.wheel.force-include]\n"../../shared" = "mine/shared"\n',
        "mine/__init__.py": "",
    }
    write(tmp_path, {"repo/shared/util.py": "x = 1"})
    root = write(tmp_path / "repo/python/mine", files)
    wheel, _ = packed(root, tmp_path / "cache")
    assert wheel.read("mine/shared/util.py") == b"x = 1"
    again, _ = packed(root, tmp_path / "other")
    assert Path(str(again.filename)).read_bytes() == Path(str(wheel.filename)).read_bytes()


def test_a_version_that_was_edited_after_the_installation_does_not_count(tmp_path: Path) -> None:
    """The wheel is of the installed version in every place that names it, and the person is told."""
    files = {
        "setup.py": "from setuptools import setup\n"
        "setup(name='mine', version='1.1', packages=['mine'], scripts=['tool'], "
        "data_files=[('share/mine', ['a.txt'])])",
        "mine/__init__.py": "",
        "tool": "#!/bin/sh\n",
        "a.txt": "",
    }
    wheel, note = packed(write(tmp_path / "project", files), tmp_path / "cache")
    assert note.startswith("mine 1.0: the source on the client says version 1.1 now; shipped as 1.0")
    assert {name.partition("/")[0] for name in wheel.namelist()} == {"mine", "mine-1.0.data", "mine-1.0.dist-info"}
    uv(["venv", str(tmp_path / "venv")])
    uv(["pip", "install", "--no-deps", "--python", str(tmp_path / "venv"), str(wheel.filename)])
    site = next((tmp_path / "venv" / "lib").glob("*/site-packages"))
    (one,) = importlib.metadata.distributions(name="mine", path=[str(site)])
    assert one.version == "1.0"
    for file in one.files or []:
        content = Path(str(file.locate())).read_bytes()
        assert file.hash is None or file.hash.value == base64_digest(content)
    assert (tmp_path / "venv" / "share" / "mine" / "a.txt").exists()


def base64_digest(content: bytes) -> str:
    """Return a SHA-256 as RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
