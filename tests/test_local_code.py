"""Code that is on no index arrives on real clusters, exactly as the client has it."""

from __future__ import annotations

import json
import subprocess
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from clusters import BASE_PACKAGES, SOURCE, Venv, base_python, running, surroundings, uv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clusters import Cluster, Venvs

pytestmark = pytest.mark.cluster

CLIENT_PACKAGES = (*BASE_PACKAGES, str(SOURCE))
PREAMBLE = """
import json, os, sys
import dask
from dask.distributed import Client
import dask_pkgsync as pkgsync

def everywhere(function, *args):
    futures = [client.submit(function, *args, workers=[worker], pure=False)
               for worker in client.scheduler_info(n_workers=-1)["workers"]]
    return [future.result(timeout=60) for future in futures]

def call(text):
    names = {}
    exec(text, names)
    return names["answer"]
"""


class Person:
    """Somebody with a virtual environment, projects in a directory, and a client."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.home.mkdir(parents=True)
        self.venv = Venv(root / "venv")
        uv(["venv", "--python", base_python(), str(self.venv.root)])
        self.install(*CLIENT_PACKAGES)

    def install(self, *packages: str) -> None:
        """Install into the person's environment."""
        uv(["pip", "install", "--python", self.venv.python, *packages])

    def write(self, files: dict[str, str], where: str = "") -> Path:
        """Write files below the person's home."""
        for name, text in files.items():
            path = self.home / where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"))
        return self.home / where

    def run(self, cluster: Cluster, script: str, *, check: bool = True, **env: str) -> Any:
        """Run a script of the person's with a connected client, and return what it printed last, as JSON."""
        path = self.home / "job" / "job.py"
        path.parent.mkdir(exist_ok=True)
        connected = f"with Client({cluster.address!r}) as client:\n"
        body = textwrap.indent(textwrap.dedent(script), "        ")
        main = f"if __name__ == '__main__':\n    {connected}{body}"
        path.write_text(PREAMBLE + main.replace("    with", "    with", 1))
        settings = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(self.home / "cache"), "HOME": str(self.home), **env}
        done = subprocess.run(
            [self.venv.python, str(path)],
            capture_output=True,
            text=True,
            check=False,
            env=surroundings(**settings),
            cwd=self.home,
            timeout=200,
        )
        if not check:
            return done
        assert done.returncode == 0, done.stderr + cluster.logs()
        return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Return somebody with an environment of their own."""
    return Person(tmp_path / "person")


@pytest.fixture
def cluster(tmp_path: Path, venvs: Venvs) -> Iterator[Cluster]:
    """Run two workers on one host that has nothing in its cache but uv's own."""
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cluster" / "cache", workers=2) as cluster:
        yield cluster


HATCHLING = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"
    [project]
    name = "{name}"
    version = "1.0"
    {more}
"""


def test_an_editable_project_arrives_and_an_edit_arrives_again(person: Person, cluster: Cluster) -> None:
    """An editable project is built from a copy, edits travel in the same process, and nothing is written into it."""
    files = {
        "pyproject.toml": HATCHLING.format(
            name="mine", more='[project.scripts]\n    mine-tool = "mine:main"\n    [tool.hatch.build.targets.wheel]\n'
        ),
        "src/mine/__init__.py": "answer = 41\ndef main(): print('tool', answer)\n",
        "src/mine/gone.py": "",
        "src/mine/table.csv": "a,b\n1,2\n",
    }
    project = person.write(files, "mine")
    person.install("-e", str(project))
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    found = person.run(
        cluster,
        f"""
        from pathlib import Path
        project = Path({str(project)!r})
        results = {{}}
        report = pkgsync.sync(client, progress=False)
        results["first"] = everywhere(call, "import mine; answer = mine.answer")
        results["file"] = everywhere(call, "import mine; answer = mine.__file__")
        results["tool"] = everywhere(
            call, "import subprocess; answer = subprocess.check_output(['mine-tool'], text=True)")
        results["data"] = everywhere(
            call, "import mine, pathlib; answer = (pathlib.Path(mine.__file__).parent / 'table.csv').read_text()")
        again = pkgsync.sync(client, progress=False)
        results["again"] = again.changed
        results["written"] = sorted(str(path) for path in project.rglob("*"))
        (project / "src/mine/__init__.py").write_text("answer = 42\\n")
        (project / "src/mine/gone.py").unlink()
        pkgsync.sync(client, progress=False)
        results["second"] = everywhere(call, "import mine; answer = mine.answer")
        results["gone"] = everywhere(call, "import importlib.util; answer = importlib.util.find_spec('mine.gone')")
        print(json.dumps(results))
        """,
    )
    assert found["first"] == [41, 41]
    assert all("/layers/" in file for file in found["file"])
    assert found["tool"] == ["tool 41\n"] * 2
    assert found["data"] == ["a,b\n1,2\n"] * 2
    assert found["again"] is False
    assert found["written"] == sorted(map(str, before))
    assert found["second"] == [42, 42]
    assert found["gone"] == [None, None]
