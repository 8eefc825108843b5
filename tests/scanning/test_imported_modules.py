"""What this process has imported travels, or is named: loose modules, and what memory has otherwise than the disk."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dask_pkgsync import PackageSync, PolicyError
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.scanning import memory
from dask_pkgsync.scanning.imported_modules import accounted
from dask_pkgsync.scanning.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.model.reports.discrepancies import Discrepancy

BIG = 10**9
TESTS = Path(__file__).parents[1]
LATER = time.time() + 100
"""A time at which nothing had been imported yet."""


class Place:
    """A directory on the search path, whose modules are forgotten at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.before = set(sys.modules)

    def write(self, *names: str, **texts: str) -> Path:
        """Write files; those without a text are empty."""
        for name in (*names, *texts):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts.get(name, ""))
        return self.root

    def load(self, *names: str) -> None:
        """Import modules."""
        importlib.invalidate_caches()
        for name in names:
            importlib.import_module(name)

    def edit(self, **texts: str) -> None:
        """Write files after they were imported."""
        self.write(**texts)
        for name in texts:
            os.utime(self.root / name, (LATER, LATER))

    def forget(self) -> None:
        """Take what was imported out of `sys.modules`."""
        for name in set(sys.modules) - self.before:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(str(self.root.parent)):
                del sys.modules[name]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Return a directory on the search path that holds files of all kinds: the home directory."""
    place = Place(tmp_path / "home")
    place.root.mkdir()
    kept = [entry for entry in sys.path if entry.startswith((sys.prefix, sys.base_prefix))]
    monkeypatch.setattr(sys, "path", [str(place.root), *kept])
    monkeypatch.setenv("HOME", str(place.root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield place
    place.forget()


def account(
    policy: Policy | None = None, limit: int | None = BIG
) -> tuple[dict[str, list[str]], dict[str, Discrepancy]]:
    """Return the files of the modules that travel, by name, and what is named."""
    whole, named = accounted(snapshot(modules=limit is not None), policy or Policy(), limit=limit)
    assert whole.modules.keys() <= whole.environment.distributions.keys()
    own = {name: module for name, module in whole.modules.items() if "home" in module.directory.parts}
    files = {name: [file.path for file in module.files] for name, module in own.items()}
    return files, {one.name: one for one in named if one.name not in of_tests()}


def of_tests() -> set[str]:
    """Return what else this process has imported, from directories that the tests take off the search path."""
    files = {name.partition(".")[0]: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {name for name, file in files.items() if file and TESTS in Path(file).parents}


def test_what_was_imported_from_the_home_directory_travels_alone(place: Place) -> None:
    """Of directories with files of all kinds, the imported modules travel, and nothing beside them."""
    place.write("helper.py", "other.py", "pkg/__init__.py", "pkg/lazy.py", "pkg/t.csv", "space/used/__init__.py")
    place.write("space/used/data.txt", "space/huge.bin", "space/single.py", "space/other.py")
    place.load("helper", "pkg", "space.used", "space.single")
    files, named = account()
    assert files == {
        "module-helper": ["helper.py"],
        "module-pkg": ["pkg/__init__.py", "pkg/lazy.py", "pkg/t.csv"],
        "module-space": ["space/single.py", "space/used/__init__.py", "space/used/data.txt"],
    }
    assert not named
    assert "module-helper" not in account(limit=None)[0]  # the person has chosen what travels


def test_what_cannot_travel_is_named_with_what_to_do(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the standard library's name, one that git ignores, one that is too large, one that is gone."""
    place.write(
        "code.py",
        "ignored.py",
        "pkg/__init__.py",
        "pkg/generated.py",
        "gone.py",
        **{".gitignore": "ignored.py\ngenerated.py\n"},
    )
    place.write(**{"large.py": "#" * 5000})
    monkeypatch.delitem(sys.modules, "code", raising=False)
    place.load("code", "ignored", "pkg.generated", "gone", "large")
    (place.root / "gone.py").unlink()
    files, named = account(limit=2000)
    monkeypatch.delitem(sys.modules, "code")
    assert files == {}
    assert named.keys() == {"code", "ignored", "pkg", "gone", "large"}
    assert str(place.root / "code.py") in named["code"].problem
    assert "standard library" in named["code"].problem
    assert ".gitignore" in named["ignored"].problem
    assert "pkg/generated.py" in named["pkg"].problem
    assert "modules-limit" in named["large"].problem
    assert "Restart" in named["gone"].advice
    assert account(Policy.of(levels={"module-*": "ignore"}), limit=2000)[1].keys() == set()


def test_neighbours_of_an_editable_project_travel_once_imported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project travels as it is built; helpers beside its packages, of which no build knows, as loose modules."""
    project = Place(place.root.parent / "home-project")
    backend = '[tool.hatch.build.targets.wheel]\npackages = ["lib/core"]\n'
    project.write(
        "flat/__init__.py", "core/__init__.py", "helpers.py", "tests/__init__.py", **{"pyproject.toml": backend}
    )
    site = Place(place.root.parent / "site-packages")
    direct = json.dumps({"url": project.root.as_uri(), "dir_info": {"editable": True}})
    site.write("flat-1.dist-info/RECORD", **{"flat.pth": f"{project.root}\n", "flat-1.dist-info/METADATA": "x"})
    site.write(**{"flat-1.dist-info/direct_url.json": direct})
    monkeypatch.setattr(sys, "path", [*sys.path, str(site.root), str(project.root)])
    place.load("flat", "core", "helpers")
    whole, named = accounted(snapshot(), Policy(), limit=BIG)
    assert {name for name, module in whole.modules.items() if module.directory == project.root} == {"module-helpers"}
    assert not {one.name for one in named} - of_tests()
    project.write("single.py")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(project.root / "job.py"), raising=False)
    whole, _ = accounted(snapshot(), Policy(), limit=BIG)
    own = {name for name, module in whole.modules.items() if module.directory == project.root}
    assert own == {"module-helpers", "module-single"}  # of a script in it, too; its tests stay


def test_what_was_upgraded_or_edited_after_its_import_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes get what is on the disk; a reload, a comment, or an import after the change is no difference."""
    site = Place(place.root.parent / "site-packages")
    old = "__version__ = '1.0'\ndef f(): return 1\n"
    for name in ("upgraded", "reloaded", "reinstalled", "unused"):
        site.write(**{f"{name}/__init__.py": old, f"{name}-1.0.dist-info/METADATA": "x"})
        site.write(**{f"{name}-1.0.dist-info/RECORD": f"{name}/__init__.py,,\n{name}-1.0.dist-info/RECORD,,\n"})
    place.write(**{"edited.py": "limit = 1\n", "commented.py": "def f(): return 1\n"})
    monkeypatch.setattr(sys, "path", [*sys.path, str(site.root)])
    place.load("upgraded", "reloaded", "reinstalled", "edited", "commented")
    assert not account()[1]
    for name in ("upgraded", "reloaded", "unused"):
        site.edit(**{f"{name}/__init__.py": old.replace("1", "2")})
    for name in ("upgraded", "reloaded", "reinstalled", "unused"):
        os.utime(site.root / f"{name}-1.0.dist-info/RECORD", (LATER, LATER))
    importlib.reload(sys.modules["reloaded"])
    place.edit(**{"edited.py": "limit = 2\n", "commented.py": "\n# more\ndef f(): return 1\n"})
    named = account()[1]
    assert named.keys() == {"upgraded", "edited"}
    assert "Restart" in named["upgraded"].advice
    assert account(limit=None)[1].keys() == {"upgraded"}
    assert account(Policy.of(ignore=["upgraded", "module-edited"]))[1].keys() == set()


def test_what_is_known_of_imported_modules_is_looked_up_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of an old distribution may be another one since then, or its distribution upgraded, or gone."""
    site = Place(place.root.parent / "site-packages")
    for name in ("same", "upgraded", "other", "removed"):
        site.write(**{f"{name}/__init__.py": "x = 1\n", f"{name}-1.0.dist-info/METADATA": "x"})
        site.write(**{f"{name}-1.0.dist-info/RECORD": f"{name}/__init__.py,,\n"})
        for path in (f"{name}-1.0.dist-info/RECORD", f"{name}-1.0.dist-info"):
            os.utime(site.root / path, (1e9, 1e9))
    monkeypatch.setattr(sys, "path", [*sys.path, str(site.root)])
    place.load("same", "upgraded", "other", "removed")
    assert account() == account() == ({}, {})
    (site.root / "upgraded-1.0.dist-info").rename(site.root / "upgraded-2.0.dist-info")
    site.edit(**{"upgraded/__init__.py": "x = 2\n", "upgraded-2.0.dist-info/RECORD": "upgraded/__init__.py,,\n"})
    shutil.rmtree(site.root / "removed-1.0.dist-info")
    place.write("other.py")
    monkeypatch.delitem(sys.modules, "other")
    place.load("other")
    whole, named = accounted(snapshot(), Policy(), limit=BIG)
    assert {
        name: module.directory for name, module in whole.modules.items() if name in ("module-other", "module-removed")
    } == {
        "module-other": place.root,
        "module-removed": site.root,
    }
    assert {one.name for one in named} - of_tests() == {"upgraded"}


@pytest.mark.parametrize(
    ("before", "after", "is_other"),
    [
        ("def f(): return 1", "# why\n\n\ndef f():\n    return 1", False),
        ("def f(): return 1", "def f(): return 2", True),
        ("def f(): return 1", "def f(): return True", True),
        ("def f(): return 1", "def g(): return 1", True),
        ("def f(): return 1", "def f(): return 1\nclass C: pass", True),
        ("class C:\n  @property\n  def p(self): return 1", "class C:\n  @property\n  def p(self): return 2", True),
        ("class C:\n  @staticmethod\n  def p(): return 1", "class C:\n  @staticmethod\n  def p(): return 2", True),
        ("import types\n@types.coroutine\ndef f(): yield", "import types\n@types.coroutine\ndef f(): yield", False),
        (
            "from functools import cache, wraps\n@wraps(len)\ndef f(): return 1",
            "from functools import cache, wraps\n@wraps(len)\ndef f(): return 1",
            False,
        ),
        ("limit = 0.5", "limit = 0.7", True),
        ("state = 0\ndef f():\n  global state\n  state = 1", "state = 2\ndef f():\n  global state\n  state = 1", False),
        ("x = 1", "x = 1\nif True: y = (", False),
        ("class A: pass\nclass B: pass\nA.b = B\nB.a = A", "class A: pass\nclass B: pass\nA.b = B\nB.a = A", False),
    ],
)
def test_memory_is_compared_by_what_it_does(place: Place, before: str, after: str, is_other: bool) -> None:
    """Functions and plain constants count; lines, comments, decorators, and what the module itself changes do not."""
    place.write(**{"compared.py": before})
    place.load("compared")
    place.write(**{"compared.py": after})
    assert memory.differs(sys.modules["compared"], str(place.root / "compared.py")) is is_other
    del sys.modules["compared"]


def test_modules_of_this_process_are_as_their_files_say() -> None:
    """Nothing is named without a reason: of a large real process, every module is compared with its file."""
    import distributed  # noqa: F401

    names = [name for name in sys.modules if name.startswith(("distributed.", "dask.", "tornado.", "yaml"))]
    files = {name: getattr(sys.modules[name], "__file__", None) for name in names}
    pure = {name: file for name, file in files.items() if isinstance(file, str) and file.endswith(".py")}
    assert len(pure) > 50
    assert [name for name in list(pure)[::5] if memory.differs(sys.modules[name], pure[name])] == []


def test_faults_of_the_environment_are_in_every_report(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that cannot be read is not on the nodes: the person is told, unless it is ignored."""
    site = Place(place.root.parent / "site-packages")
    site.write("broken-1.0.dist-info/METADATA")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site.root)])
    named = [one for one in PackageSync(modules=False).discrepancies if one.name == "broken"]
    assert [("METADATA" in one.problem, str(site.root) in one.problem) for one in named] == [(True, True)]
    assert not [one for one in PackageSync(modules=False, ignore=["broken"]).discrepancies if one.name == "broken"]
    with pytest.raises(PolicyError, match="did you mean"):
        PackageSync(only=["distribute"], modules=False)
