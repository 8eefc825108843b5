"""A scan remembers what an earlier one has read, and still sees every change."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dask_pkgsync import scan
from dask_pkgsync.model.environments.origin import FromDirectory, FromIndex, FromVcs
from dask_pkgsync.scanning import file_states
from dask_pkgsync.scanning.consistency import conflicts
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.search_path import owners
from dask_pkgsync.scanning.snapshot import verified
from dask_pkgsync.scanning.sources import loose_files, project_sources


@pytest.fixture(autouse=True)
def _remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as settled at once: else nothing that a test writes would be remembered."""
    monkeypatch.setattr(file_states, "SETTLED", 0)


def install(site: Path, name: str, version: str, code: str = "x = 1\n", **files: str) -> Path:
    """Write a distribution with one module, as an installer does; return its dist-info."""
    dist_info = site / f"{name}-{version}.dist-info"
    dist_info.mkdir(parents=True)
    (site / f"{name}.py").write_text(code)
    (dist_info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n{files.pop('requires', '')}\n")
    (dist_info / "INSTALLER").write_text("uv\n")
    for file, text in files.items():
        (dist_info / file.replace("_json", ".json")).write_text(text)
    (dist_info / "RECORD").write_text(f"{name}.py,sha256={len(code):043},{len(code)}\n{dist_info.name}/RECORD,,\n")
    return dist_info


def versions(*path: Path) -> dict[str, str]:
    """Return the versions that a scan finds."""
    return {name: one.version for name, one in scan_installed([str(place) for place in path]).distributions.items()}


def test_a_scan_that_finds_no_change_returns_the_same_environment(tmp_path: Path) -> None:
    """Its fingerprint need not be worked out again."""
    install(tmp_path, "one", "1.0")
    install(tmp_path, "two", "1.0")
    first = scan_installed([str(tmp_path)])
    assert scan_installed([str(tmp_path)]) is first
    assert scan([str(tmp_path)]) is first


def test_a_scan_sees_what_installers_do(tmp_path: Path) -> None:
    """Upgrades, removals, additions, and another build of the same version are found at once."""
    old = install(tmp_path, "one", "1.0")
    install(tmp_path, "two", "1.0")
    assert versions(tmp_path) == {"one": "1.0", "two": "1.0"}
    shutil.rmtree(old)
    new = install(tmp_path, "one", "2.0")
    assert versions(tmp_path) == {"one": "2.0", "two": "1.0"}
    build = scan_installed([str(tmp_path)]).distributions["one"].content
    shutil.rmtree(new)
    install(tmp_path, "one", "2.0", "x = 22\n")
    assert scan_installed([str(tmp_path)]).distributions["one"].content != build
    shutil.rmtree(tmp_path / "two-1.0.dist-info")
    install(tmp_path, "three", "3.0")
    assert versions(tmp_path) == {"one": "2.0", "three": "3.0"}


def test_a_scan_sees_files_that_were_rewritten_in_place(tmp_path: Path) -> None:
    """Neither direct_url.json nor RECORD changes unnoticed, though their directory does not change."""
    vcs = {"url": "https://a.example/r", "vcs_info": {"vcs": "git", "commit_id": "a" * 40}}
    dist_info = install(tmp_path, "one", "1.0", direct_url_json=json.dumps(vcs))
    first = scan_installed([str(tmp_path)]).distributions["one"]
    assert first.origin == FromVcs("https://a.example/r", "a" * 40)
    vcs["vcs_info"] = {"vcs": "git", "commit_id": "b" * 41}
    (dist_info / "direct_url.json").write_text(json.dumps(vcs))
    second = scan_installed([str(tmp_path)]).distributions["one"]
    assert second.origin == FromVcs("https://a.example/r", "b" * 41)
    (dist_info / "RECORD").write_text("one.py,sha256=other,5\n")
    assert scan_installed([str(tmp_path)]).distributions["one"].content != second.content
    (dist_info / "direct_url.json").unlink()
    assert scan_installed([str(tmp_path)]).distributions["one"].origin == FromIndex()
    (dist_info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))
    assert scan_installed([str(tmp_path)]).distributions["one"].origin == FromDirectory("file:///x", editable=True)


def test_faults_are_reported_each_time(tmp_path: Path) -> None:
    """What is broken stays so until it is repaired, and is then found."""
    dist_info = install(tmp_path, "one", "1.0")
    (dist_info / "METADATA").write_text("")
    install(tmp_path, "two", "1.0")
    install(tmp_path, "two", "2.0")
    for _ in range(2):
        faults = scan_installed([str(tmp_path)]).faults
        assert {(fault.name, fault.kind) for fault in faults} == {("one", "broken"), ("two", "duplicate")}
    (dist_info / "METADATA").write_text("Name: one\nVersion: 1.0\n")
    shutil.rmtree(tmp_path / "two-1.0.dist-info")
    assert scan_installed([str(tmp_path)]).faults == ()
    assert versions(tmp_path) == {"one": "1.0", "two": "2.0"}


def test_a_relative_directory_is_that_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of the current directory, the same entry of the search path means another directory."""
    install(tmp_path / "a" / "site", "one", "1.0")
    install(tmp_path / "b" / "site", "one", "2.0")
    for directory, version in (("a", "1.0"), ("b", "2.0"), ("a", "1.0")):
        monkeypatch.chdir(tmp_path / directory)
        assert versions(Path("site")) == {"one": version}


def test_metadata_of_old_tools_is_read_again(tmp_path: Path) -> None:
    """An egg-info is seen when it changes, and an egg-link when the source tree that it names changes."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "old-1.0.egg-info").mkdir()
    (site / "old-1.0.egg-info" / "PKG-INFO").write_text("Name: old\nVersion: 1.0\n")
    tree = tmp_path / "tree"
    (tree / "mine.egg-info").mkdir(parents=True)
    (tree / "mine.egg-info" / "PKG-INFO").write_text("Name: mine\nVersion: 1.0\n")
    (site / "mine.egg-link").write_text(f"{tree}\n.\n")
    assert versions(site) == {"old": "1.0", "mine": "1.0"}
    (tree / "mine.egg-info" / "PKG-INFO").write_text("Name: mine\nVersion: 1.0.1\n")
    (site / "old-1.0.egg-info").rename(site / "old-2.0.egg-info")
    assert versions(site) == {"old": "2.0", "mine": "1.0.1"}
    (site / "old-2.0.egg-info" / "top_level.txt").write_text("of_old\n")
    (site / "of_old.py").touch()
    assert scan_installed([str(site)]).distributions["old"].origin.modules == ("of_old.py",)  # type: ignore[union-attr]


def test_threads_find_the_same(tmp_path: Path) -> None:
    """Scans at the same time return equal environments."""
    for number in range(30):
        install(tmp_path, f"one{number}", "1.0")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: scan_installed([str(tmp_path)]), range(40)))
    assert all(one == found[0] for one in found)
    assert len(found[0].distributions) == 30


def test_a_modified_file_is_found_each_time(tmp_path: Path) -> None:
    """A look at the files of a distribution sees an edit, a missing file, and that all is as it was again."""
    dist_info = install(tmp_path, "one", "1.0")
    code, path = tmp_path / "one.py", [str(tmp_path)]
    recorded = (dist_info / "RECORD").stat().st_mtime_ns
    clean = scan_installed(path)
    assert verified(clean, path) == verified(clean, path) == clean
    os.utime(code, ns=(recorded + 1, recorded + 1))
    assert verified(clean, path).distributions["one"].modified == 1
    code.unlink()
    assert verified(clean, path).distributions["one"].modified == 1
    code.write_text("x = 1\n")
    os.utime(code, ns=(recorded, recorded))
    assert verified(clean, path) == clean


def test_unmet_requirements_are_found_when_they_come_up(tmp_path: Path) -> None:
    """A check is repeated only for another environment, and METADATA without a known content is looked up."""
    install(tmp_path, "one", "1.0", requires="Requires-Dist: two>=2\n")
    path = [str(tmp_path)]
    assert conflicts(scan_installed(path), path) == ("one 1.0 requires two>=2, which is not installed",)
    two = install(tmp_path, "two", "1.0")
    assert conflicts(scan_installed(path), path) == ("one 1.0 requires two>=2, and 1.0 is installed",)
    shutil.rmtree(two)
    two = install(tmp_path, "two", "2.0")
    assert conflicts(scan_installed(path), path) == ()
    (two / "RECORD").unlink()
    assert conflicts(scan_installed(path), path) == ()
    (two / "METADATA").write_text("Name: two\nVersion: 2.0\nRequires-Dist: three\n")
    assert conflicts(scan_installed(path), path) == ("two 2.0 requires three, which is not installed",)


def test_the_owner_of_a_module_is_that_of_now(tmp_path: Path) -> None:
    """A RECORD that was rewritten in place names other modules."""
    dist_info = install(tmp_path, "one", "1.0")
    assert set(owners(tmp_path)) == {"one", "one-1"}
    (dist_info / "RECORD").write_text("other.py,,\n")
    assert set(owners(tmp_path)) == {"other"}


def test_no_change_of_a_project_goes_unnoticed(tmp_path: Path) -> None:
    """An edit, a mode, a new file or directory, a rule above, and the target of a link: each makes other sources."""
    root = tmp_path / "checkout" / "project"
    (root / "mine" / "inner").mkdir(parents=True)
    for name in ("pyproject.toml", "mine/__init__.py", "mine/inner/a.py", "notes.txt"):
        (root / name).write_text("")
    (root / "mine" / "link.py").symlink_to(tmp_path / "elsewhere.py")

    def digest() -> str:
        return project_sources(root).digest()

    def add_rule() -> None:
        (tmp_path / "checkout" / ".gitignore").write_text("*.txt\n")
        (tmp_path / "checkout" / ".git").mkdir()

    changes = (
        lambda: (root / "mine" / "inner" / "a.py").write_text("x = 1"),
        lambda: (root / "mine" / "inner" / "a.py").chmod(0o755),
        (root / "mine" / "inner" / "b.py").touch,
        lambda: (root / "mine" / "inner" / "b.py").rename(root / "mine" / "inner" / "c.py"),
        lambda: (root / "mine" / "new").mkdir() or (root / "mine" / "new" / "d.py").touch(),
        lambda: (tmp_path / "elsewhere.py").write_text("y = 1"),
        lambda: (tmp_path / "elsewhere.py").write_text("y = 22"),
        add_rule,
        lambda: (root / "mine" / ".gitignore").write_text("*.csv"),
        (root / "mine" / "inner" / "pyvenv.cfg").touch,
        (root / "mine" / "inner" / "pyvenv.cfg").unlink,
    )
    known = [digest()]
    for change in changes:
        change()
        assert digest() not in known[-1:]
        assert project_sources(root) is project_sources(root)
        known.append(digest())


def test_an_edit_of_a_loose_module_is_noticed(tmp_path: Path) -> None:
    """Its files are looked up each time, and so are the rules beside it."""
    (tmp_path / "mine").mkdir()
    code = tmp_path / "mine" / "__init__.py"
    code.write_text("x = 1")
    (tmp_path / "mine" / "data.csv").write_text("1")
    first = loose_files(tmp_path, ["mine"])
    assert loose_files(tmp_path, ["mine"]) is first
    digest, facts = first.digest(), code.stat()
    code.write_text("x = 22")
    os.utime(code, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert loose_files(tmp_path, ["mine"]).digest() != digest
    (tmp_path / ".gitignore").write_text("*.csv")
    assert [file.path for file in loose_files(tmp_path, ["mine"]).files] == ["mine/__init__.py"]
