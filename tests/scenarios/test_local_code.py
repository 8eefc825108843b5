"""Code that is on no index arrives on real clusters, exactly as the client has it."""

from __future__ import annotations

import json
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest
from clusters import Person, running, uv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clusters import Cluster, Venvs

pytestmark = pytest.mark.cluster


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
    """An editable project is built from a copy, with edits and what git ignores, and nothing is written into it.

    Nor into its repository, to which git's variables point, as in a hook or a linked worktree.
    """
    files = {
        "pyproject.toml": HATCHLING.format(
            name="mine",
            more='[project.scripts]\n    mine-tool = "mine:main"\n    [tool.hatch.version]\n    source = "vcs"\n',
        )
        .replace('version = "1.0"', 'dynamic = ["version"]')
        .replace('"hatchling"]', '"hatchling", "hatch-vcs"]'),
        ".gitignore": "*.pkl\n",
        "src/mine/model.pkl": "weights",
        "src/mine/12:30.json": "{}",
        "src/mine/__init__.py": "answer = 41\ndef main(): print('tool', answer)\n",
        "src/mine/gone.py": "",
        "src/mine/table.csv": "a,b\n1,2\n",
    }
    project = person.write(files, "mine")
    for argv in (["init"], ["add", "."], ["commit", "-m", "one"], ["tag", "v2.5.0"]):
        git(*argv, cwd=project)
    person.install("-e", str(project))
    (project / "src/mine/table.csv").write_text("a,b\n1,2\n3,4\n")  # an unfinished edit
    repository = {path: path.read_bytes() for path in (project / ".git").rglob("*") if path.is_file()}
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
        results["ignored"] = everywhere(
            call, "import mine, pathlib; answer = (pathlib.Path(mine.__file__).parent / 'model.pkl').read_text()")
        results["colon"] = everywhere(
            call, "import mine, pathlib; answer = (pathlib.Path(mine.__file__).parent / '12:30.json').exists()")
        results["version"] = everywhere(call, "import importlib.metadata as m; answer = m.version('mine')")
        again = pkgsync.sync(client, progress=False)
        results["again"] = again.changed
        results["written"] = sorted(str(path) for path in project.rglob("*"))
        (project / "src/mine/__init__.py").write_text("answer = 42\\n")
        (project / "src/mine/gone.py").unlink()
        pkgsync.sync(client, progress=False)
        results["second"] = everywhere(call, "import mine; answer = mine.answer")
        results["gone"] = everywhere(call, "import importlib.util; answer = str(importlib.util.find_spec('mine.gone'))")
        print(json.dumps(results))
        """,
        GIT_DIR=str(project / ".git"),
        GIT_WORK_TREE=str(project),
        GIT_INDEX_FILE=str(project / ".git" / "index"),
        GIT_OBJECT_DIRECTORY=str(project / ".git" / "objects"),
    )
    assert repository == {path: path.read_bytes() for path in (project / ".git").rglob("*") if path.is_file()}
    assert found["first"] == [41, 41]
    assert all("/layers/" in file for file in found["file"])
    assert found["tool"] == ["tool 41\n"] * 2
    assert found["data"] == ["a,b\n1,2\n3,4\n"] * 2
    assert found["ignored"] == ["weights"] * 2
    assert found["colon"] == [True] * 2
    assert found["version"] == ["2.5.0"] * 2
    assert found["again"] is False
    assert found["written"] == sorted(map(str, before))
    assert found["second"] == [42, 42]
    assert found["gone"] == ["None", "None"]


C_EXTENSION = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
    "setup.py": """
        from setuptools import Extension, setup
        setup(name="fast", version="2.0", packages=["fast"], ext_modules=[Extension("fast._core", ["fast/core.c"])])
    """,
    "fast/__init__.py": "from fast._core import answer\n",
    "fast/core.c": """
        #include <Python.h>
        static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(42); }
        static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
        static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", "", -1, methods};
        PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }
    """,
}


def git(*argv: str, cwd: Path) -> str:
    """Call git."""
    config = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *config, *argv], cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()


def test_what_was_built_on_the_client_alone_arrives_as_it_is(person: Person, cluster: Cluster) -> None:
    """Git checkouts, a local wheel, a path install and a compiled project travel, though their sources are gone."""
    repository = person.write(
        {
            "inner/pyproject.toml": HATCHLING.format(name="from-git", more=""),
            "inner/src/from_git/__init__.py": "answer = 'pinned'\n",
        },
        "repository",
    )
    git("init", cwd=repository)
    git("add", ".", cwd=repository)
    git("commit", "-m", "one", cwd=repository)
    commit = git("rev-parse", "HEAD", cwd=repository)
    (repository / "inner/src/from_git/__init__.py").write_text("answer = 'too new'\n")
    git("commit", "-am", "two", cwd=repository)
    compiled = person.write(C_EXTENSION, "fast")
    wheel_source = person.write(
        {"pyproject.toml": HATCHLING.format(name="from-wheel", more=""), "from_wheel.py": "answer = 'wheel'\n"}, "wheel"
    )
    uv(["build", "--wheel", "--out-dir", str(person.home / "dist"), str(wheel_source)])
    (wheel,) = (person.home / "dist").glob("*.whl")
    person.install(f"git+{repository.as_uri()}@{commit}#subdirectory=inner", str(compiled), str(wheel))
    for gone in (repository, compiled, wheel_source, person.home / "dist"):
        gone.rename(gone.with_name(f"{gone.name}-gone"))
    found = person.run(
        cluster,
        """
        import importlib.metadata
        results = {}
        report = pkgsync.sync(client, progress=False, transport="index")
        results["skipped"] = [line for node in report.nodes for line in node.skipped]
        results["git"] = everywhere(call, "import from_git; answer = from_git.answer")
        results["fast"] = everywhere(call, "import fast; answer = fast.answer()")
        results["wheel"] = everywhere(call, "import from_wheel; answer = from_wheel.answer")
        results["origin"] = everywhere(
            call, "import importlib.metadata as m; answer = m.distribution('from-git').read_text('direct_url.json')")
        results["table"] = str(pkgsync.compare(pkgsync.scan(), pkgsync.scan([])))
        results["status"] = str(pkgsync.status(client))
        print(json.dumps(results))
        """,
    )
    assert all(line.startswith("dask-pkgsync ") for line in found["skipped"])
    assert found["git"] == ["pinned"] * 2
    assert found["fast"] == [42, 42]
    assert found["wheel"] == ["wheel"] * 2
    origin = json.loads(found["origin"][0])
    assert origin["vcs_info"]["commit_id"] == commit
    assert origin["subdirectory"] == "inner"
    assert f"1.0 (git {commit[:8]})" in found["table"]


@pytest.mark.slow
def test_a_compiled_editable_project_is_built_from_its_copy(person: Person, cluster: Cluster) -> None:
    """An editable project with a C extension arrives, and an edit of its C code does, too."""
    project = person.write(C_EXTENSION, "fast")
    person.install("-e", str(project))
    found = person.run(
        cluster,
        f"""
        from pathlib import Path
        source = Path({str(project / "fast/core.c")!r})
        results = {{}}
        pkgsync.sync(client, progress=False)
        results["first"] = everywhere(call, "import fast; answer = fast.answer()")
        source.write_text(source.read_text().replace("42", "43"))
        pkgsync.sync(client, progress=False)
        results["second"] = everywhere(call, "import fast; answer = fast.answer()")
        print(json.dumps(results))
        """,
    )
    assert found == {"first": [42, 42], "second": [43, 43]}


@pytest.mark.slow
def test_loose_modules_arrive_and_an_edit_reaches_workers_that_imported_them(person: Person, cluster: Cluster) -> None:
    """What lies beside the script and on PYTHONPATH arrives; what must not travel stays at home."""
    person.write(
        {
            "helpers.py": "answer = 1\n",
            "tools/__init__.py": "",
            "tools/table.txt": "data",
            "tools/.env": "SECRET=hunter2",
            "tools/__pycache__/x.pyc": "",
            "tools/notes.log": "",
            "tools/12:30.json": "{}",
            ".gitignore": "*.log\n",
            "wave.py": "answer = 'not the one of the standard library'\n",
            "secrets_of_mine.py": "answer = 'mine'\n",
        },
        "job",
    )
    elsewhere = person.write({"more.py": "answer = 'more'\n"}, "elsewhere")
    found = person.run(
        cluster,
        """
        from pathlib import Path
        here = Path(__file__).parent
        results = {}
        pkgsync.sync(client, progress=False)
        results["first"] = everywhere(call, "import helpers; answer = helpers.answer")
        results["more"] = everywhere(call, "import more; answer = more.answer")
        results["files"] = everywhere(
            call, "import tools, os; answer = sorted(os.listdir(tools.__path__[0]))")
        results["wave"] = everywhere(call, "import wave; answer = hasattr(wave, 'open')")
        results["job"] = everywhere(call, "import importlib.util; answer = str(importlib.util.find_spec('job'))")
        (here / "helpers.py").write_text("answer = 2\\n")
        pkgsync.sync(client, progress=False)
        results["second"] = everywhere(call, "import helpers; answer = helpers.answer")
        pkgsync.sync(client, progress=False, modules=False)
        results["off"] = everywhere(call, "import importlib.util; answer = str(importlib.util.find_spec('helpers'))")
        pkgsync.sync(client, progress=False, modules=["helpers"])
        results["one"] = everywhere(
            call, "import importlib.util as u; answer = [u.find_spec(n) is not None for n in ('helpers', 'tools')]")
        print(json.dumps(results))
        """,
        PYTHONPATH=str(elsewhere),
    )
    assert found["first"] == [1, 1]
    assert found["more"] == ["more"] * 2
    assert [set(files) - {"__pycache__"} for files in found["files"]] == [
        {"__init__.py", "table.txt", "12:30.json"}
    ] * 2
    assert found["wave"] == [True, True]
    assert found["job"] == ["None", "None"]
    assert found["second"] == [2, 2]
    assert found["off"] == ["None", "None"]
    assert found["one"] == [[True, False]] * 2


@pytest.mark.slow
def test_where_all_share_one_environment_an_edit_restarts_who_imported_it(person: Person, tmp_path: Path) -> None:
    """With one environment on a shared file system nothing is built or sent; only what is loaded is out of date."""
    files = {"pyproject.toml": HATCHLING.format(name="mine", more=""), "src/mine/__init__.py": "answer = 1\n"}
    project = person.write(files, "mine")
    person.install("-e", str(project))
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", person.venv, tmp_path / "cache", workers=2) as cluster:
        found = person.run(
            cluster,
            f"""
            from pathlib import Path
            client.wait_for_workers(2)
            source = Path({str(project)!r}) / "src/mine/__init__.py"
            results = []
            for number in (1, 22, 22):  # of another length: bytecode is told by size and second
                source.write_text(f"answer = {{number}}\\n")
                report = pkgsync.sync(client, progress=False, modules=False)
                results.append([everywhere(call, "import mine; answer = mine.answer"), report.changed])
            print(json.dumps(results))
            """,
        )
    assert found == [[[1, 1], False], [[22, 22], True], [[22, 22], False]]
    assert not (tmp_path / "cache" / "layers").exists()


@pytest.mark.slow
def test_what_the_scheduler_has_imported_stays_known(person: Person, cluster: Cluster) -> None:
    """A module that it imported from a layer, and that was edited since, is refused however often one syncs."""
    person.write({"helpers.py": "answer = 1\n", "other.py": "answer = 1\n"}, "job")
    found = person.run(
        cluster,
        """
        from pathlib import Path
        here = Path(__file__).parent
        results = []
        def tried(**options):
            try:
                report = pkgsync.sync(client, progress=False, **options)
                results.append([line for line in report.nodes[0].skipped if line.startswith("module-")] != [])
            except pkgsync.SyncError as error:
                results.append("has imported other versions already of: module-helpers" in str(error))
        tried()
        client.run_on_scheduler(lambda: __import__("helpers").answer)
        (here / "helpers.py").write_text("answer = 22\\n")
        tried(scheduler="refuse")
        tried(scheduler="warn")
        (here / "other.py").write_text("answer = 333\\n")
        tried(scheduler="refuse")
        tried(scheduler="warn")
        results.append(everywhere(call, "import helpers, other; answer = [helpers.answer, other.answer]"))
        print(json.dumps(results))
        """,
    )
    assert found == [False, True, True, True, True, [[22, 333]] * 2]


@pytest.mark.slow
def test_what_a_job_has_imported_is_there_or_named(person: Person, cluster: Cluster) -> None:
    """Home, development directories, archives, checkouts, what old tools left: a module is there as here, or named."""
    site = next(person.venv.root.glob("lib/python*/site-packages"))
    archive = person.home / "lib.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("zipped.py", "answer = 'zipped'\n")
    development = person.write({"developed.py": "answer = 'developed'\n"}, "development")
    (site / "mine.pth").write_text(f"{development}\n")
    person.write({"homely.py": "answer = 'homely'\n"})
    for name in ("unlisted", "sought"):  # as `setup.py install` of old leaves them, with and without their modules
        (site / f"{name}-1.5-py3.egg-info").write_text(f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.5\n")
    (site / "unlisted.py").write_text("answer = 'unlisted'\n")
    (site / "scripts").mkdir()
    (site / "scripts" / "__init__.py").write_text("answer = 'of a package, by accident'\n")
    person.write(
        {
            "six.py": "answer = 'checkout'\n",
            "scripts/__init__.py": "answer = 'scripts'\n",
            "src/inner/core.py": "answer = 'core'\n",
            "src/inner/__init__.py": "",
            "code.py": "answer = 'mine'\n",
        },
        "job",
    )
    found = person.run(
        cluster,
        """
        import importlib, warnings
        sys.path.append(os.environ["HOME"])
        names = ["zipped", "developed", "homely", "unlisted", "six", "scripts", "src.inner.core", "code"]
        here = {name: importlib.import_module(name).answer for name in names}
        look = "import importlib; answer = getattr(importlib.import_module({!r}), 'answer', None)"
        def there():
            return {name: everywhere(call, look.format(name)) for name in names}
        report = pkgsync.sync(client, progress=False)
        results = {"here": here, "there": there(), "told": [[one.name, str(one)] for one in report.discrepancies]}
        results["ok"], results["head"] = report.ok, str(report).partition("\\n\\n")[0]
        again = pkgsync.sync(client, progress=False)
        results["again"] = [again.changed, [one.name for one in again.discrepancies]]
        client.restart()
        results["restarted"] = there()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            client.register_plugin(pkgsync.PackageSync())
        results["warned"] = [one.category.__name__ for one in told if "code.py" in str(one.message)]
        print(json.dumps(results))
        """,
        PYTHONPATH=str(archive),
    )
    here = {**found["here"], "code": None}
    assert found["there"] == found["restarted"] == {name: [answer] * 2 for name, answer in here.items()}
    assert not found["ok"]
    assert dict(found["told"]).keys() == {"code", "sought"}
    assert "code.py" in found["head"]
    assert "sought" in found["head"]
    assert found["again"] == [False, ["code", "sought"]]
    assert found["warned"] == ["DiscrepancyWarning"]
