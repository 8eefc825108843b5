"""Which local code belongs, what tells two states of it apart, and what the person reads about it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import dask
import pytest
from click.testing import CliRunner

from dask_pkgsync import PackageSync, PolicyError, scan
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.cli import group as cli
from dask_pkgsync.client import plugin as client_plugin
from dask_pkgsync.model.blobs import BlobRequest
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.origin import FromDirectory, FromModules
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.wire.names import canonical_name
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.loose_modules import find_modules
from dask_pkgsync.scanning.records import module_names
from dask_pkgsync.scanning.snapshot import Snapshot, snapshot, with_digests
from dask_pkgsync.scanning.sources import digest_of, loose_files, project_files, project_sources
from dask_pkgsync.wheels.inspection import inspect
from dask_pkgsync.wheels.module_wheel import pack_modules
from dask_pkgsync.wheels.pack import Packer

BIG = 10**9


def write(root: Path, *names: str, **texts: str) -> Path:
    """Write files; those without a text are empty."""
    for name in (*names, *texts):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(name, ""))
    return root


def paths(root: Path) -> list[str]:
    """Return what belongs to a project."""
    return [file.path for file in project_files(root)]


def test_a_project_is_what_its_build_may_look_at(tmp_path: Path) -> None:
    """Caches, environments, earlier builds, secrets and what git ignores stay, unless a package can read it."""
    root = write(
        tmp_path / "project",
        *("pyproject.toml", "src/mine/__init__.py", "src/mine/data.csv", "src/mine/build/inner.py", "README.md"),
        *("build/lib/mine/deleted.py", "dist/mine.whl", "mine.egg-info/PKG-INFO", ".git/config", ".env", "my.key"),
        *("src/mine/__pycache__/x.pyc", "venv/pyvenv.cfg", "venv/lib/x.py", "conda/conda-meta/x.json", "id_rsa"),
        *("src/mine/_version.py", "data/huge.bin", "src/mine/debug.log", "src/mine/keep.log", "src/mine/nested/no.txt"),
        **{
            ".gitignore": "_version.py\n/data/\n*.log\n!keep.log\n",
            "src/mine/nested/.gitignore": "no.txt\n",
        },
    )
    assert paths(root) == sorted(
        [
            *("README.md", "pyproject.toml", "src/mine/__init__.py", "src/mine/_version.py", "src/mine/build/inner.py"),
            *("src/mine/data.csv", "src/mine/keep.log", "src/mine/nested/.gitignore", "src/mine/nested/no.txt"),
        ]
    )


def test_what_git_ignores_in_packages_travels_up_to_a_limit(tmp_path: Path) -> None:
    """A model and generated code are here; what programs write is not, and what is too large is named."""
    root = write(
        tmp_path / "project",
        *("pyproject.toml", "mine/generated/__init__.py", "mine/run.log", "ignored_pkg/__init__.py", "outputs/x.csv"),
        *("mine/generated/x.json", "ignored_pkg/table.csv", "outputs/notes.py"),
        **{
            ".gitignore": "*.pkl\n*.log\ngenerated/\n/ignored_pkg/\n/outputs/\n",
            "mine/__init__.py": "",
            "mine/model.pkl": "weights",
        },
    )
    assert paths(root) == [
        *("ignored_pkg/__init__.py", "ignored_pkg/table.csv", "mine/__init__.py", "mine/generated/__init__.py"),
        *("mine/generated/x.json", "mine/model.pkl", "pyproject.toml"),
    ]
    with (root / "mine/model.pkl").open("wb") as file:
        file.truncate(60_000_000)
    sources = project_sources(root)
    assert "mine/model.pkl" not in [file.path for file in sources.files]
    ((place, reason),) = sources.left_out
    assert place == root
    assert "git ignores 3 files in its packages (60.0 MB)" in reason
    assert "mine/model.pkl (60.0 MB)" in reason


def test_a_project_in_an_ignored_directory_is_whole(tmp_path: Path) -> None:
    """What lies in a directory that git ignores is not ignored for that."""
    top = write(tmp_path / "repository", ".git/HEAD", **{".gitignore": "/scratch/\n"})
    assert paths(write(top / "scratch" / "one", "setup.py", "one/data.csv")) == ["one/data.csv", "setup.py"]


def test_files_beside_a_project_that_its_build_names_belong_to_it(tmp_path: Path) -> None:
    """Those of a monorepo, in every way of saying it; not the repository itself, and not what only tools read."""
    write(
        tmp_path, "common/part/__init__.py", "shared/a.json", "other/setup.py", "LICENSE", "app/src/app.py", "one.txt"
    )
    write(tmp_path, "common/setup.txt", "data/table.csv")
    write(
        tmp_path / "app",
        **{
            "pyproject.toml": '[project]\nlicense = {file = "../LICENSE"}\n[tool.poetry]\n'
            'packages = [{include = "part", from = "../common"}]\n[tool.setuptools_scm]\nroot = ".."\n'
            '[tool.uv.sources]\nother = {path = "../other"}\n'
            '[tool.hatch.build.targets.wheel.force-include]\n"../shared/*.json" = "x"\n"../app/src" = "y"\n',
            "setup.cfg": "[options]\npackage_dir =\n  = ../data\n",
            "setup.py": "open('../one.txt'); open('../missing.txt')",
        },
    )
    expected = [
        *("../LICENSE", "../common/part/__init__.py", "../common/setup.txt", "../data/table.csv", "../one.txt"),
        *("../shared/a.json", "pyproject.toml", "setup.cfg", "setup.py", "src/app.py"),
    ]
    assert paths(tmp_path / "app") == sorted(expected)
    seen = digest_of(project_files(tmp_path / "app"))
    (tmp_path / "shared/a.json").write_text("edited")
    assert digest_of(project_files(tmp_path / "app")) != seen


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reading TOML needs Python 3.11")
def test_what_no_build_reads_stays_where_that_is_known(tmp_path: Path) -> None:
    """Documents and data beside the packages stay if pyproject.toml alone says how to build, and does not name them."""
    system = '[build-system]\nrequires = ["hatchling>=1"]\nbuild-backend = "hatchling.build"\n'
    root = write(
        tmp_path / "project",
        *("src/mine/__init__.py", "src/mine/data.csv", "tests/test_mine.py", "tests/data.json", "README.md", "LICENSE"),
        *("data/big.bin", "docs/index.md", "dump.sql", "named/x.csv", "x.json", "stubs/mine.pyi", "extra/one.bin"),
        **{
            "pyproject.toml": system + '[tool.hatch.build]\ninclude = ["src", "/named/x.csv", "*.json", "ext*/*.bin"]\n'
        },
    )
    everything = paths(root)
    assert [path for path in everything if path.startswith(("data", "docs", "dump"))] == []
    assert len(everything) == 11
    for change in (
        {"hatch_build.py": ""},
        {"pyproject.toml": system + "[tool.hatch.build.hooks.custom]\n"},
        {"pyproject.toml": system.replace('"hatchling>=1"', '"hatchling", "hatch-mypyc"')},
        {"pyproject.toml": system.replace("hatchling.build", "mesonpy")},
        {"pyproject.toml": "= nonsense"},
    ):
        write(root, **{"pyproject.toml": system, **change})
        assert {"data/big.bin", "docs/index.md", "dump.sql"} <= set(paths(root))
        (root / "hatch_build.py").unlink(missing_ok=True)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system refuses such names, or takes them for the same")
def test_a_name_that_no_wheel_can_hold_stays_alone(beside: Path) -> None:
    """A name that is not UTF-8, or has control characters, is told; all else travels, whatever its name is."""
    write(beside, "tools/__init__.py", "tools/12:30.json", "tools/Model.py", "tools/model.py", "tools/new\nline/x.txt")
    latin = Path(os.fsdecode(os.fsencode(beside / "tools") + b"/caf\xe9.txt"))
    latin.touch()
    assert found() == {
        "module-tools": [f"tools/{name}" for name in ("12:30.json", "Model.py", "__init__.py", "model.py")]
    }
    loose = find_modules(chosen=True, limit=BIG)
    left_out = loose.incomplete["module-tools"]
    assert {path for path, _ in left_out} == {latin, beside / "tools" / "new\nline"}
    assert all("no wheel can hold" in reason for _, reason in left_out)
    told = [str(one) for one in PackageSync(modules=True).discrepancies if one.name == "module-tools"]
    assert len(told) == 2
    assert any(f"{beside}/tools/caf?.txt is not shipped: no wheel can hold" in text for text in told)
    assert "not shipped: " in CliRunner().invoke(cli.pkgsync, ["scan", "--files", "--modules", str(beside)]).output


def test_what_is_left_out_of_a_project_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that git ignores, and that is too large, is a discrepancy of the project, unless the project is ignored."""
    root = write(tmp_path / "project", "setup.py", "mine/__init__.py", **{".gitignore": "*.bin\n"})
    with (root / "mine" / "weights.bin").open("wb") as file:
        file.truncate(60_000_000)
    url = f'{{"url": "{root.as_uri()}", "dir_info": {{"editable": true}}}}'
    site = write(tmp_path / "x" / "site-packages", **{"mine-1.0.dist-info/METADATA": "Name: mine\n"})
    write(site, **{"mine-1.0.dist-info/direct_url.json": url})
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    (told,) = (str(one) for one in PackageSync(modules=False).discrepancies if one.name == "mine")
    assert "git ignores 1 file in its packages (60.0 MB)" in told
    assert "weights.bin (60.0 MB)" in told
    assert "mine" not in {one.name for one in PackageSync(modules=False, ignore=["mine"]).discrepancies}


def test_single_files_of_a_directory_can_be_taken(tmp_path: Path) -> None:
    """Of a directory without __init__.py travels what was imported, by its path below the place of the search path."""
    write(tmp_path, "space/one.py", "space/two.py", "space/pkg/__init__.py", "space/pkg/data.csv")
    files = loose_files(tmp_path, ["space/one.py", "space/pkg", "missing/x.py"]).files
    assert [file.path for file in files] == ["space/one.py", "space/pkg/__init__.py", "space/pkg/data.csv"]


def test_the_rules_of_the_whole_checkout_hold(tmp_path: Path) -> None:
    """A project in a subdirectory obeys the .gitignore files above it, up to the top of the checkout and no further."""
    write(tmp_path, **{".gitignore": "*.txt\n"})
    top = write(tmp_path / "repository", ".git/HEAD", **{".gitignore": "*.bin\n"})
    root = write(top / "packages" / "one", "setup.py", "a.bin", "b.txt")
    assert paths(root) == ["b.txt", "setup.py"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    """A link to a file or directory counts as what it leads to."""
    root = write(tmp_path / "project", "setup.py", "pkg/__init__.py")
    elsewhere = write(tmp_path / "elsewhere", "shared.py")
    (root / "pkg" / "shared").symlink_to(elsewhere)
    (root / "pkg" / "circle").symlink_to(root)
    (root / "pkg" / "dead").symlink_to(tmp_path / "nothing")
    assert paths(root) == ["pkg/__init__.py", "pkg/shared/shared.py", "setup.py"]


def test_every_change_that_matters_changes_the_digest(tmp_path: Path) -> None:
    """Bytes, names, modes and deletions count; dates do not."""
    root = write(tmp_path / "project", "setup.py", "a.py", "b.py")
    seen = [digest_of(project_files(root))]
    os.utime(root / "a.py", (0, 0))
    assert digest_of(project_files(root)) == seen[0]
    changes = [
        lambda: (root / "a.py").write_text("x = 1"),
        lambda: (root / "a.py").rename(root / "c.py"),
        lambda: (root / "c.py").chmod(0o755),
        (root / "b.py").unlink,
    ]
    for change in changes:
        change()
        seen.append(digest_of(project_files(root)))
    assert len(set(seen)) == len(seen)
    assert digest_of(project_files(root), "another version") != seen[-1]


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that is on the search path as a script's is."""
    root = tmp_path / "beside"
    root.mkdir()
    monkeypatch.setattr(
        sys, "path", [str(root), *(entry for entry in sys.path if entry.startswith((sys.prefix, sys.base_prefix)))]
    )
    return root


def found(chosen: bool | list[str] = True, limit: int = BIG) -> dict[str, list[str]]:
    """Return the files of loose modules by distribution."""
    loose = find_modules(chosen, limit=limit)
    return {module.distribution.name: [file.path for file in module.files] for module in loose.modules}


def test_what_can_be_imported_travels_and_the_rest_stays(beside: Path) -> None:
    """Modules, packages and directories with modules travel with their data; data beside them and odd names stay."""
    write(
        beside,
        *("helpers.py", "tools/__init__.py", "tools/data/table.csv", "space/module.py", "table.csv", "not-a-name.py"),
        *("setup.py", "conftest.py", "only_data/x.csv", "notebook.ipynb", "tools/cert.pem", "tools/secrets.toml"),
        *("json.py", "click.py", "ignored.py", "env/pyvenv.cfg", "env/x.py"),
        **{".gitignore": "ignored.py\n"},
    )
    assert found() == {
        "module-helpers": ["helpers.py"],
        "module-space": ["space/module.py"],
        "module-tools": ["tools/__init__.py", "tools/data/table.csv"],
    }
    loose = find_modules(chosen=True, limit=BIG)
    assert {path.parent for path, _ in loose.left_out} == {beside}
    assert {path.name: reason.split()[0] for path, reason in loose.left_out} == {
        "json.py": "the",
        "click.py": "an",
        **dict.fromkeys(("env", "ignored.py"), ".gitignore,"),
    }
    assert found(chosen=False) == {}


def test_the_search_path_decides_between_modules_of_one_name(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of a name travels, as it is the one that is imported."""
    write(beside, "helpers.py")
    other = write(tmp_path / "other" / "beside", "helpers.py", "more.py")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other), str(beside), "", 5, str(tmp_path / "missing")])
    monkeypatch.chdir(beside)
    assert found() == {"module-helpers": ["helpers.py"], "module-more": ["more.py"]}
    assert {module.directory for module in find_modules(chosen=True, limit=BIG).modules} == {beside, other}


def test_where_a_module_lies_does_not_count(beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same module beside another script, or in another person's directory, is the same one."""
    write(beside, "job.py", **{"helpers.py": "x = 1"})
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(beside / "job.py"), raising=False)
    first = scan().distributions["module-helpers"]
    other = write(tmp_path / "another", "other_job.py", **{"helpers.py": "x = 1", "more.py": ""})
    monkeypatch.setattr(sys, "path", [str(other), *sys.path[1:]])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(other / "other_job.py"))
    second = scan().distributions["module-helpers"]
    assert (second.version, second.identity) == (first.version, first.identity)
    assert "module-more" in scan().distributions


def test_modules_that_are_told_apart_have_distributions_that_are(beside: Path) -> None:
    """PEP 503 knows no case and one kind of separator; Python does. A module beside a package of its name is one."""
    write(beside, "a_b.py", "A_b.py", "_a_b.py", "a__b.py", "ä.py", f"{'long' * 50}.py", "both.py", "both/__init__.py")
    names = found()
    assert names["module-a-b"] == ["a_b.py"]
    assert names["module-both"] == ["both.py", "both/__init__.py"]
    assert len(names) == 7
    assert {canonical_name(name) for name in names} == set(names)
    assert max(map(len, names)) < 100


def test_everybodys_directories_are_no_places_for_modules(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home directory, the interpreter's own, and those of editable projects are passed over."""
    write(beside, "helpers.py")
    monkeypatch.setenv("HOME", str(beside))
    assert found() == {}
    (tmp_path / "link-to-home").symlink_to(beside)
    monkeypatch.setenv("HOME", str(tmp_path / "link-to-home"))
    assert found() == {}
    monkeypatch.setenv("HOME", str(tmp_path))
    site = write(tmp_path / "x" / "site-packages", **{"link.pth": f"import os\n# no\n{beside}\n"})
    monkeypatch.setattr(sys, "path", [str(beside), str(site), str(Path(os.__file__).parent)])
    assert found() == {"module-helpers": ["helpers.py"]}  # a development directory of the person's own
    editable = {"url": beside.as_uri(), "dir_info": {"editable": True}}
    write(site, **{"mine-1.dist-info/METADATA": "x", "mine-1.dist-info/direct_url.json": json.dumps(editable)})
    assert not snapshot().modules


def test_modules_in_archives_travel(beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip on the search path is a directory of loose modules, and an edit of it is another state of them."""
    archive = tmp_path / "lib.zip"

    def written(text: str) -> None:
        with zipfile.ZipFile(archive, "w") as bundle:
            for name in ("zipped/__init__.py", "zipped/table.csv", "zipped/.env", "__main__.py", "table.csv", "n.pyc"):
                bundle.writestr(name, "")
            bundle.writestr("single.py", text)

    written("x = 1")
    write(beside, "helpers.py")
    monkeypatch.setattr(sys, "path", [*sys.path, str(archive)])
    names = {"module-helpers": ["helpers.py"], "module-single": ["single.py"]}
    assert found() == {**names, "module-zipped": ["zipped/__init__.py", "zipped/table.csv"]}
    state = snapshot()
    one = state.environment.distributions["module-single"]
    packer = Packer(state, open_cache(str(tmp_path / "cache")))
    with zipfile.ZipFile(packer.pack(BlobRequest(one.name, one.version, one.identity))[1]) as wheel:
        assert wheel.read("single.py") == b"x = 1"
    assert found([str(archive)]).keys() == {"module-single", "module-zipped"}
    written("x = 2")
    assert scan().distributions["module-single"].version != one.version
    archive.write_bytes(b"PK nothing")
    assert found() == {"module-helpers": ["helpers.py"]}


def test_a_directory_that_holds_only_packages_is_a_package(beside: Path) -> None:
    """Data projects import ``src.mine``, where src has no module of its own; directories of data are no packages."""
    write(beside, "src/mine/__init__.py", "src/mine/core.py", "data/2024/table.csv", "venv/lib/python3/x/__init__.py")
    assert found() == {"module-src": ["src/mine/__init__.py", "src/mine/core.py"]}


def test_the_directory_of_the_script_is_chosen_though_git_ignores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that exclude the whole directory do not count; those that exclude files in it do."""
    for rules, own in (("scratch/\n*.csv\n", ""), ("scratch/*\n*.csv\n", ""), ("*.csv\n", "*\n")):
        top = write(tmp_path / str(hash(rules)), ".git/HEAD", **{".gitignore": rules, "scratch/.gitignore": own})
        write(top / "scratch", "helper.py", "tools/__init__.py", "tools/big.csv", "tools/small.txt")
        monkeypatch.setattr(sys, "path", [str(top / "scratch"), *sys.path])
        assert found()["module-helper"] == ["helper.py"]
        assert found()["module-tools"] == ["tools/__init__.py", "tools/small.txt"]


def test_helpers_beside_installed_packages_travel(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``pip install --target .`` the packages are distributions, and the helpers beside them loose modules."""
    write(beside, "helpers.py", "released/__init__.py", "six_like.py")
    record = "released/__init__.py,,0\nsix_like.py,,0\nreleased-1.dist-info/RECORD,,\n"
    write(beside, **{"released-1.dist-info/METADATA": "x", "released-1.dist-info/RECORD": record})
    assert found() == {"module-helpers": ["helpers.py"]}
    assert "released" in scan().distributions
    egg = write(beside / "site-packages" / "old-1-py3.egg", "old/__init__.py", "EGG-INFO/PKG-INFO")
    monkeypatch.setattr(sys, "path", [str(egg)])
    assert found() == {"module-old": ["old/__init__.py"]}


def test_what_python_imports_is_what_travels(beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout beside the script hides the release here, and so it does on the nodes, whatever is installed there."""
    site = write(tmp_path / "site-packages", **{"released/__init__.py": "V = 'release'", "spaced/__init__.py": ""})
    write(beside, "spaced/module.py", "test/__init__.py", **{"released/__init__.py": "V = 'checkout'"})
    monkeypatch.setattr(sys, "path", [str(beside), *sys.path[1:], str(site)])
    loose = find_modules(chosen=True, limit=BIG)
    assert [(module.name, module.is_first) for module in loose.modules] == [("released", True)]
    assert {path.name for path, _ in loose.left_out} == {"spaced", "test"}  # a regular package comes before a namespace
    state = snapshot()
    one = state.environment.distributions["module-released"]
    _, wheel = Packer(state, open_cache(str(tmp_path / "cache"))).pack(BlobRequest(one.name, one.version, one.identity))
    inspect(wheel, name=one.name, version=one.version)
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(site)
    code = "import site, sys; site.addsitedir(sys.argv[1]); import released, json; print(released.V, json.__file__)"
    argv = [sys.executable, "-I", "-S", "-c", code, str(site)]
    answer = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert answer == ["checkout", json.__file__]
    assert "released" in module_names(next(site.glob("module_released*.dist-info")))
    monkeypatch.setattr(sys, "path", [*sys.path[1:], str(beside)])
    assert found() == {}  # behind the site directory it is never imported


def test_the_script_itself_stays(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is defined in the main script travels with the tasks; an edit of it is no new environment."""
    write(beside, "job.py", "helpers.py")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(beside / "job.py"), raising=False)
    assert found() == {"module-helpers": ["helpers.py"]}


def test_modules_can_be_chosen(beside: Path, tmp_path: Path) -> None:
    """By name, by path of a module or package, or a whole directory; what is not there is an error."""
    write(beside, "one.py", "two.py", "tools/__init__.py")
    other = write(tmp_path / "other", "pkg/__init__.py", "single.py", "rest.py")
    assert found(["one"]) == {"module-one": ["one.py"]}
    assert found(["tools", "one"]) == {"module-one": ["one.py"], "module-tools": ["tools/__init__.py"]}
    assert found([str(other / "single.py")]) == {"module-single": ["single.py"]}
    assert found([str(other / "pkg"), str(other / "pkg")]) == {"module-pkg": ["pkg/__init__.py"]}
    assert found([str(other)]).keys() == {"module-pkg", "module-rest", "module-single"}
    with pytest.raises(PolicyError, match="'missing' is neither a loose module"):
        found(["missing"])


def test_what_is_named_travels_or_is_an_error(beside: Path) -> None:
    """Code travels whatever its name is; what cannot travel is told to who named it."""
    write(beside, "secrets_loader.py", "ignored.py", "json.py", "Credentials.json", **{".gitignore": "ignored.py\n"})
    assert found() == {"module-secrets-loader": ["secrets_loader.py"]}
    assert found(["secrets_loader"]) == {"module-secrets-loader": ["secrets_loader.py"]}
    for name, reason in (("ignored", r"\.gitignore"), ("json", "standard library")):
        with pytest.raises(PolicyError, match=f"was named and cannot travel: .*{reason}"):
            found([name])
    assert found([str(beside)]) == {"module-secrets-loader": ["secrets_loader.py"]}


def test_secrets_in_packages_stay_whatever_their_case(beside: Path, tmp_path: Path) -> None:
    """Data files that commonly hold secrets, in any spelling, and behind any link."""
    write(tmp_path / ".ssh", "config")
    write(
        beside, "p/__init__.py", "p/Client_Secret_1.json", "p/Credentials.json", "p/service-account.json", "p/.pgpass"
    )
    (beside / "p" / "keys").symlink_to(tmp_path / ".ssh")
    assert found() == {"module-p": ["p/__init__.py"]}


def test_too_much_is_an_error_that_names_the_largest(beside: Path) -> None:
    """The limit is for all together."""
    write(beside, **{"one.py": "#" * 600, "two.py": "#" * 500})
    assert found(limit=1100)
    with pytest.raises(PolicyError, match=r"1\.1 kB, more than.*one\.py \(600 B\), .*two\.py"):
        found(limit=1099)


def test_a_development_directory_is_no_reason_to_fail(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a directory that a .pth file adds, what is too large is left out: nobody has chosen it for this job."""
    write(beside, **{"one.py": "#" * 600})
    development = write(
        tmp_path / "development", **{"small.py": "#" * 50, "large.py": "#" * 900, "medium.py": "#" * 60}
    )
    site = write(tmp_path / "site-packages", **{"mine.pth": str(development)})
    monkeypatch.setattr(sys, "path", [*sys.path, str(site), str(development)])
    loose = find_modules(chosen=True, limit=700)
    assert {module.name for module in loose.modules} == {"one", "small"}
    assert {path.name: "modules-limit" in reason for path, reason in loose.left_out} == {"large": True, "medium": True}


def test_a_scan_holds_modules_and_an_edit_changes_its_fingerprint(beside: Path) -> None:
    """Loose modules are a distribution whose version is the digest of their content."""
    write(beside, **{"helpers.py": "x = 1"})
    first = scan()
    one = first.distributions["module-helpers"]
    assert isinstance(one.origin, FromModules)
    assert one.version.startswith("0+")
    write(beside, **{"helpers.py": "x = 2"})
    second = scan()
    assert second.fingerprint != first.fingerprint
    assert scan().fingerprint == second.fingerprint
    assert "module-helpers" not in scan(modules=False).distributions


def test_modules_are_packed_into_a_wheel(beside: Path, tmp_path: Path) -> None:
    """The wheel is for every platform unless something in it is compiled; what changed meanwhile is refused."""
    write(beside, **{"tools/__init__.py": "", "tools/a, b.txt": "odd"})
    state = snapshot()
    packer = Packer(state, open_cache(str(tmp_path / "cache")))
    one = state.environment.distributions["module-tools"]
    request = BlobRequest(one.name, one.version, one.identity)
    blob, path = packer.pack(request)
    assert blob.filename.endswith("-py3-none-any.whl")
    inspect(path, name=one.name, version=one.version)
    assert packer.pack(request) == (blob, path)  # it was kept
    write(beside, **{"tools/__init__.py": "changed"})
    with pytest.raises(WheelError, match="changed after the scan"):
        pack_modules(state.modules[one.name], one, tmp_path, digest=one.identity)
    write(beside, "core.cpython-311-x86_64-linux-gnu.so")
    compiled = snapshot()
    one = compiled.environment.distributions["module-core"]
    path = pack_modules(compiled.modules[one.name], one, tmp_path, digest=one.identity)
    assert not path.name.endswith("any.whl")


def test_modules_of_an_earlier_scan_are_packed_while_they_are_the_same(beside: Path, tmp_path: Path) -> None:
    """An environment that somebody scanned and hands over is as good as the one that we scan."""
    write(beside, "helpers.py")
    environment = scan()
    one = environment.distributions["module-helpers"]
    request = BlobRequest(one.name, one.version, one.identity)
    blob, path = Packer(Snapshot(environment), open_cache(str(tmp_path / "cache"))).pack(request)
    assert path.stat().st_size == blob.size
    write(beside, **{"helpers.py": "another = 1"})
    with pytest.raises(WheelError, match="has changed since the scan"):
        Packer(Snapshot(environment), open_cache(str(tmp_path / "other"))).pack(request)


def test_who_names_what_is_not_there_is_told_the_nearest() -> None:
    """A misspelt name in only, for which nothing would be shipped, is an error; what extra brings is no mistake."""
    with pytest.raises(PolicyError, match=r"found clik \(did you mean click[^)]*\?\); nothing-like-it$"):
        PackageSync(only=["nothing_like_it", "clik", "click"], modules=False)
    assert PackageSync(only=["Click", "dask", "s3fs"], extra=["s3fs>=1"], modules=False)


def test_modules_can_be_left_out_by_a_pattern(beside: Path) -> None:
    """They have names as packages have, and levels count for them, too."""
    write(beside, "helpers.py", "plot.py")
    target = PackageSync(levels={"module-pl*": "ignore"}, modules=True).target
    lacking = type(target.environment).of(target.environment.interpreter, [])
    names = {step.name for step in make_plan(lacking, target.environment, target.policy).changes}
    assert "module-helpers" in names
    assert "module-plot" not in names


def test_what_this_client_does_not_have_is_refused(tmp_path: Path) -> None:
    """A node that asks for another version, or for what is gone, is told what there is."""
    packer = Packer(snapshot(modules=False), open_cache(str(tmp_path / "cache")))
    with pytest.raises(WheelError, match=r"the environment of this client has"):
        packer.pack(BlobRequest("click", "0.0.1"))
    with pytest.raises(WheelError, match=r"the environment of this client does not have it"):
        packer.pack(BlobRequest("never-installed", "1.0"))


def test_a_source_that_is_gone_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable project whose directory was removed is reported, and never counts as a match."""
    found = scan_installed([str(tmp_path)])
    origin = FromDirectory((tmp_path / "gone with space").as_uri(), editable=True)
    assert source_directory(origin) == tmp_path / "gone with space"
    environment = with_digests(type(found).of(found.interpreter, [Distribution("mine", "1.0", origin)]))
    (fault,) = environment.faults
    assert (fault.name, fault.kind) == ("mine", "unreadable")
    (step,) = (step for step in make_plan(found, environment).skipped if step.name == "mine")
    assert "source directory cannot be read" in step.reason  # and no index is asked for that name
    monkeypatch.setattr(client_plugin, "local_snapshot", lambda _, **_rest: Snapshot(environment))
    with pytest.raises(WheelError, match=r"mine 1\.0: its source cannot be read"):
        PackageSync()
    assert PackageSync(ignore=["mine"])


def test_projects_have_a_limit_unless_they_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large a source is an error that names the largest files; a project that is ignored is not looked at."""
    root = write(tmp_path / "project", "setup.py", **{"mine/table.csv": "#" * 600, "mine/other.csv": "#" * 500})
    site = tmp_path / "site-packages"
    info = {
        "METADATA": "Name: mine\n",
        "direct_url.json": f'{{"url": "{root.as_uri()}", "dir_info": {{"editable": true}}}}',
    }
    write(site, **{f"mine-1.0.dist-info/{name}": text for name, text in info.items()})
    assert scan([str(site)], projects_limit=1100).distributions["mine"].identity
    with pytest.raises(
        PolicyError, match=r"projects: .*\(mine\) is 1\.1 kB, more than .*table\.csv \(600 B\), .*other"
    ):
        scan([str(site)], projects_limit=1099)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    with dask.config.set({"pkgsync.projects-limit": 1099}):
        with pytest.raises(PolicyError, match=r"ignore=\['mine'\]; or raise projects-limit"):
            PackageSync(modules=False)
        assert PackageSync(ignore=["mine"], modules=False).target.environment.distributions["mine"].identity == ""
        page = CliRunner().invoke(cli.pkgsync, ["scan", "--files", "--no-modules"]).output
        assert "built from (3 files, 1.1 kB)" in page


def test_a_backend_that_asks_git_ships_what_is_here(tmp_path: Path) -> None:
    """Files that are not added yet are readable here, and so there, also where a checkout ignores the cache."""
    config = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    for directory, ignored in ((tmp_path, "*"), (tmp_path / "project", "")):
        directory.mkdir(exist_ok=True)
        subprocess.run(["git", "init", "-q"], cwd=directory, check=True)
        (directory / ".gitignore").write_text(f"{ignored}\n")
    root = write(
        tmp_path / "project",
        *("mine/data/x.json", "mine/not-added.json"),
        **{
            "pyproject.toml": '[build-system]\nrequires = ["setuptools>=64", "setuptools-scm>=8"]\n'
            'build-backend = "setuptools.build_meta"\n[project]\nname = "mine"\ndynamic = ["version"]\n'
            '[tool.setuptools]\npackages = ["mine", "mine.data"]\n[tool.setuptools_scm]\n',
            "mine/__init__.py": "x = 1",
        },
    )
    subprocess.run(["git", "add", "--all", ":!mine/not-added.json"], cwd=root, check=True)
    subprocess.run(["git", *config, "commit", "-qm", "one"], cwd=root, check=True)
    origin = FromDirectory(root.as_uri(), editable=True)
    found = scan_installed([str(tmp_path)])
    environment = with_digests(type(found).of(found.interpreter, [Distribution("mine", "1.5", origin)]))
    one = environment.distributions["mine"]
    packer = Packer(Snapshot(environment), open_cache(str(tmp_path / "cache")))
    _, path = packer.pack(BlobRequest(one.name, one.version, one.identity))
    with zipfile.ZipFile(path) as bundle:
        names = set(bundle.namelist())
    assert {"mine/__init__.py", "mine/data/x.json", "mine/not-added.json"} <= names
    assert not (root / "build").exists()


def test_the_command_line_lists_every_file(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `scan --files` prints is what travels, with what stays and why."""
    write(beside, "helpers.py", "wave.py", **{"tools/__init__.py": "x"})
    monkeypatch.chdir(beside)
    page = CliRunner().invoke(cli.pkgsync, ["scan", "--files", "--modules", "."]).output
    assert f"loose modules (2 files, 1 B) in {beside}" in page
    assert re.search(r"helpers\.py +0 B +module-helpers 0\+", page)
    assert re.search(r"tools/__init__\.py +1 B +module-tools 0\+", page)
    assert f"not shipped: {beside}/wave.py: the standard library has a module of this name" in page
    assert "dask-pkgsync" not in page  # a tool, which does not travel
    assert CliRunner().invoke(cli.pkgsync, ["scan", "--files", "--no-modules"]).output.startswith("No local code")
    wrong = CliRunner().invoke(cli.pkgsync, ["scan", "--modules", "x", "--no-modules"])
    assert wrong.exit_code == 2
    assert CliRunner().invoke(cli.pkgsync, ["scan", "--files", sys.executable]).exit_code == 2
