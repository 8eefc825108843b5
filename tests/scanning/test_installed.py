"""A scan says what an interpreter would import, from real environments."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import SOURCE, Venv, base_python, uv
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name

from dask_pkgsync import scan
from dask_pkgsync.model.environments.origin import FromArchive, FromDirectory, FromIndex, FromVcs, Unrecorded
from dask_pkgsync.scanning.direct_url import parse_direct_url, without_credentials
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from clusters import Venvs


def dist_info(site: Path, name: str, version: str, **files: str) -> Path:
    """Write a dist-info directory."""
    directory = site / f"{name}-{version}.dist-info"
    directory.mkdir(parents=True)
    files.setdefault("METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, text in files.items():
        (directory / file.replace("_json", ".json")).write_text(text)
    return directory


def test_a_scan_finds_what_the_import_system_finds() -> None:
    """Names and versions are those of importlib.metadata, over the environment that runs the tests."""
    expected: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        expected.setdefault(canonicalize_name(found.metadata["Name"]), found.version)
    environment = scan(modules=False)
    strays = {fault.name for fault in environment.faults}
    assert {name: d.version for name, d in environment.distributions.items()} == {
        name: version for name, version in expected.items() if name not in strays or name in environment.distributions
    }


def test_the_interpreter_is_the_running_one() -> None:
    """Implementation, full version, platform and the most specific wheel tag are told."""
    interpreter = this_interpreter()
    assert interpreter.implementation == sys.implementation.name
    assert interpreter.version.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert interpreter.feature_version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert interpreter.version == platform.python_version().rstrip("+")
    assert interpreter.tag == first_tag()


def first_tag() -> str:
    """Return the first tag that names the C library, or the first where none does."""
    tags = [str(tag) for tag in sys_tags() if tag.abi != "none"]
    return next((tag for tag in tags if "-manylinux" in tag or "-musllinux" in tag), tags[0])


def test_a_distribution_of_linux_may_say_what_it_supports(tmp_path: Path) -> None:
    """With a module ``_manylinux`` (PEP 600), the wheel tag is the one that packaging finds."""
    (tmp_path / "_manylinux.py").write_text("def manylinux_compatible(*_): return False\n")
    program = (
        "from dask_pkgsync.scanning.wheel_tag import wheel_tag; from packaging.tags import sys_tags; "
        "print(wheel_tag(), next(sys_tags()))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(SOURCE)])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ)
    ours, theirs = done.stdout.split()
    assert ours == theirs
    if sys.platform == "linux":
        assert "manylinux" not in ours


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a git repository that holds a project in a subdirectory."""
    root = tmp_path_factory.mktemp("repository")
    inner = root / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "Inner.Project"\nversion = "1.2"\n[tool.hatch.build.targets.wheel]\ninclude = ["inner.py"]\n'
    )
    (inner / "inner.py").write_text("x = 1\n")
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for argv in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *argv], check=True)
    return root


def installed(tmp_path: Path, *requirements: str) -> Venv:
    """Return a new environment with these."""
    venv = Venv(tmp_path / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, "packaging", *requirements])
    return venv


def test_a_git_install_is_told_with_its_commit(project: Path, tmp_path: Path) -> None:
    """A distribution from version control has its commit and subdirectory."""
    venv = installed(tmp_path, f"inner-project @ git+file://{project}#subdirectory=inner", "six==1.16.0")
    commit = subprocess.run(
        ["git", "-C", str(project), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = venv.environment()
    origin = environment.distributions["inner-project"].origin
    assert isinstance(origin, FromVcs)
    assert (origin.commit, origin.subdirectory, origin.vcs) == (commit, "inner", "git")
    assert environment.distributions["six"].origin == FromIndex()
    assert environment.distributions["six"].installer == "uv"


def test_directory_and_editable_installs_are_told_apart(project: Path, tmp_path: Path) -> None:
    """A path install is a directory; an editable one says so; a local wheel is an archive."""
    venv = installed(tmp_path, str(project / "inner"))
    origin = venv.environment().distributions["inner-project"].origin
    assert isinstance(origin, FromDirectory)
    assert (origin.url, origin.editable) == ((project / "inner").as_uri(), False)
    assert origin.digest.startswith("content=")
    uv(["pip", "install", "--python", venv.python, "-e", str(project / "inner")])
    origin = venv.environment().distributions["inner-project"].origin
    assert isinstance(origin, FromDirectory)
    assert (origin.url, origin.editable) == ((project / "inner").as_uri(), True)
    uv(["build", "--wheel", "-o", str(tmp_path), str(project / "inner")])
    (wheel,) = tmp_path.glob("*.whl")
    uv(["pip", "install", "--python", venv.python, str(wheel)])
    origin = venv.environment().distributions["inner-project"].origin
    assert isinstance(origin, FromArchive)
    assert origin.url == wheel.as_uri()


def test_pythonpath_comes_first(venvs: Venvs, tmp_path: Path) -> None:
    """What PYTHONPATH puts in front hides what is installed, in the scan as in the import system."""
    dist_info(tmp_path, "six", "9.9")
    code = "import dask_pkgsync; print(dask_pkgsync.scan(modules=False).distributions['six'].version)"
    path = os.pathsep.join([str(tmp_path), str(SOURCE)])
    assert venvs.base().run(code, PYTHONPATH=path).stdout.strip() == "9.9"
    assert venvs.base().run(code, PYTHONPATH=str(SOURCE)).stdout.strip() == "1.15.0"


SECRETS = [
    "https://user:hunter2@host/x.whl",
    "https://hunter2@host/x.whl",
    "git+https://oauth2:hunter2@host/x.git",
    "https://${hunter2}@host/x.whl",
    "https://host/x.whl?token=hunter2&sig=hunter2",
    "https://host/x.whl#password=hunter2",
    "ssh://git:hunter2@host/x.git",
    "https:user:hunter2@host/x.whl",
    "user:hunter2@host:x.git",
    "${hunter2}@host:x.git",
    "git+ssh://hunter2@host/x.git",
    "https://user:hun/hunter2@host/x.whl",
    "https://user:hun#hunter2@host/x.whl",
    "https://user:hun?hunter2@host/x.whl",
    "hunter2@host:x.git",
    "host:x.git?token=hunter2",
]


@pytest.mark.parametrize("url", SECRETS)
def test_no_credential_is_in_a_scan(url: str, tmp_path: Path) -> None:
    """Users, passwords, tokens and placeholders are stripped from every URL."""
    archive = json.dumps({"url": url, "archive_info": {"hash": "sha256=00"}})
    dist_info(tmp_path, "one", "1.0", direct_url_json=archive)
    vcs = json.dumps({"url": url, "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}})
    dist_info(tmp_path, "two", "1.0", direct_url_json=vcs)
    dist_info(tmp_path, "three", "1.0", direct_url_json=json.dumps({"url": url, "dir_info": {}}))
    environment = scan([str(tmp_path)])
    assert len(environment.distributions) == 3
    assert "hunter2" not in environment.to_json()
    assert "host" in environment.to_json()


def test_what_is_no_secret_stays() -> None:
    """The user ``git`` of an SSH address and harmless fragments are kept."""
    assert without_credentials("git+ssh://git@host/x.git") == "git+ssh://git@host/x.git"
    assert without_credentials("git@host:x.git") == "git@host:x.git"
    assert without_credentials("file:///a@b/c:d@e") == "file:///a@b/c:d@e"
    assert without_credentials("https://host:8443/@scope/x") == "https://host:8443/@scope/x"
    assert without_credentials("https://host/x#subdirectory=a&egg=b") == "https://host/x#subdirectory=a&egg=b"
    hashes = {"url": "https://h/x", "archive_info": {"hashes": {"sha256": "ab"}}}
    assert parse_direct_url(json.dumps(hashes)) == FromArchive("https://h/x", "sha256=ab")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "nonsense",
        "[" * 100_000,
        '{"url": "https://[", "dir_info": {}}',
        '{"url": 7, "dir_info": {}}',
        '{"url": "x"}',
    ],
)
def test_what_is_no_direct_url_is_broken(text: str, tmp_path: Path) -> None:
    """A direct_url.json that cannot be read makes the distribution a fault, never a match."""
    dist_info(tmp_path, "odd", "1.0", direct_url_json=text)
    environment = scan([str(tmp_path)])
    assert not environment.distributions
    assert [fault.kind for fault in environment.faults] == ["broken"]


def test_broken_metadata_is_a_fault(tmp_path: Path) -> None:
    """Missing METADATA, versions that are none, and what an interrupted pip left are told and never match."""
    (dist_info(tmp_path, "gone", "1.0") / "METADATA").unlink()
    dist_info(tmp_path, "~umpy", "1.0")
    dist_info(tmp_path, "odd", "not.a.version", METADATA="Name: odd\nVersion: not.a.version\n")
    dist_info(tmp_path, "late", "unknown", METADATA="Name: late\nVersion: 1.5\n")
    (tmp_path / "bad.egg-info").mkdir()
    environment = scan([str(tmp_path)])
    assert {name: d.version for name, d in environment.distributions.items()} == {"late": "1.5"}
    assert {fault.kind for fault in environment.faults} == {"broken"}
    assert {fault.name for fault in environment.faults} >= {"gone", "odd", "bad"}
    assert environment.faulty("gone") is not None
    assert environment.faulty("late") is None


def test_a_distribution_that_is_there_twice_is_a_fault(tmp_path: Path) -> None:
    """Two versions in one directory are no match for anything; in two directories the first one counts."""
    one, two = tmp_path / "one", tmp_path / "two"
    dist_info(one, "six", "1.0")
    dist_info(one, "six", "2.0")
    dist_info(two, "six", "3.0")
    assert scan([str(one)]).faulty("six") is not None
    hidden = scan([str(two), str(one)])
    assert hidden.distributions["six"].version == "3.0"
    assert hidden.faulty("six") is None


def test_metadata_of_a_source_tree_is_stray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An egg-info in the current directory is told, and counts as nothing."""
    egg = tmp_path / "mine.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Name: mine\nVersion: 1.0\n")
    monkeypatch.chdir(tmp_path)
    for place in ("", str(tmp_path)):
        environment = scan([place])
        assert not environment.distributions
        assert [(fault.kind, fault.name) for fault in environment.faults] == [("stray", "mine")]
    monkeypatch.chdir("/")
    assert scan([str(tmp_path)]).distributions["mine"].origin == Unrecorded()


def test_what_setup_py_develop_left_is_editable(tmp_path: Path) -> None:
    """An egg-link leads to the source tree, and is broken where there is none."""
    source, site = tmp_path / "source", tmp_path / "site"
    (source / "my_project.egg-info").mkdir(parents=True)
    (source / "my_project.egg-info" / "PKG-INFO").write_text("Name: my-project\nVersion: 1.0\n")
    site.mkdir()
    (site / "my-project.egg-link").write_text(f"{source}\n.")
    (site / "gone.egg-link").write_text(f"{tmp_path / 'gone'}\n.")
    environment = scan([str(site)])
    origin = environment.distributions["my-project"].origin
    assert isinstance(origin, FromDirectory)
    assert (origin.url, origin.editable) == (source.as_uri(), True)
    assert [fault.name for fault in environment.faults] == ["gone"]


def test_egg_info_files_count(tmp_path: Path) -> None:
    """A single egg-info file, as distutils wrote it, is a distribution."""
    (tmp_path / "Old_Thing-2.0-py3.11.egg-info").write_text("Name: Old-Thing\nVersion: 2.0\n")
    assert scan([str(tmp_path)]).distributions["old-thing"].version == "2.0"


def test_what_cannot_be_listed_is_told(tmp_path: Path) -> None:
    """Zips and missing directories hold nothing; a directory that cannot be listed is a fault."""
    (tmp_path / "a.zip").write_bytes(b"")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    environment = scan([str(tmp_path / "a.zip"), str(tmp_path / "missing"), str(loop)])
    assert not environment.distributions
    assert [fault.kind for fault in environment.faults] == ["unreadable"]


def test_odd_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    """Names and paths that hold control characters are made printable, and survive JSON."""
    place = tmp_path / "a\x1b[2Jb"
    (place / "x\x07.egg-info").mkdir(parents=True)
    environment = scan([str(place)])
    assert environment.faults
    assert "\\u001b" not in environment.to_json()
    assert type(environment).from_json(environment.to_json()) == environment


def test_an_earlier_entry_hides_the_faults_of_a_later_one(tmp_path: Path) -> None:
    """What is broken or there twice in a later entry is never reached; in an earlier one it is told."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    for name in ("twice", "gone", "odd"):
        dist_info(good, name, "1.0")
    dist_info(bad, "twice", "2.0")
    dist_info(bad, "twice", "3.0")
    (dist_info(bad, "gone", "2.0") / "METADATA").unlink()
    dist_info(bad, "odd", "2.0", direct_url_json="nonsense")
    assert scan([str(good), str(bad)]).faults == ()
    assert {fault.name for fault in scan([str(bad), str(good)]).faults} == {"twice", "gone", "odd"}


ENTRY = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40),
    st.binary(min_size=1, max_size=10).filter(lambda name: not {0, ord("/")} & set(name)).map(os.fsdecode),
)


@given(
    st.lists(st.tuples(ENTRY, st.sampled_from([".dist-info", ".egg-info", ".egg-link"])), max_size=4),
    st.sampled_from(
        [b"", b"Name: a\nVersion: 1\n", b"Name: \xff\nVersion: 1 2\n", b"Name: b\nVersion: " + b"9" * 5000]
    ),
    st.binary(max_size=20),
)
def test_whatever_lies_in_a_directory_can_be_sent(entries: list[tuple[str, str]], metadata: bytes, junk: bytes) -> None:
    """No name and no content of a metadata directory makes a scan fail, or its result unfit for the wire."""
    with tempfile.TemporaryDirectory() as place:
        for stem, kind in entries:
            directory = Path(place) / (stem + kind)
            directory.mkdir(exist_ok=True)
            for file, content in (("METADATA", metadata), ("PKG-INFO", metadata), ("INSTALLER", junk)):
                (directory / file).write_bytes(content)
        environment = scan([place])
    again = type(environment).from_json(environment.to_json())
    assert again == environment
    assert again.faults == environment.faults
    assert len(again.fingerprint) == 64


def test_what_is_no_text_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths and bytes on sys.path hold nothing, as the import system has it; given to a scan, a path is scanned."""
    dist_info(tmp_path, "six", "9.9")
    monkeypatch.setattr(sys, "path", [tmp_path, os.fsencode(tmp_path)])
    assert not scan().distributions
    assert scan([tmp_path]).distributions["six"].version == "9.9"  # type: ignore[list-item]


def test_a_working_directory_that_is_gone_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose current directory was removed is scanned all the same."""
    site, gone = tmp_path / "site", tmp_path / "gone"
    dist_info(site, "six", "1.0")
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert list(scan(["", str(site)]).distributions) == ["six"]


def test_an_egg_link_is_read_from_where_it_is(tmp_path: Path) -> None:
    """A relative egg-link starts at its own directory, and passes over other projects' metadata."""
    for name in ("another", "mine"):
        (tmp_path / f"{name}.egg-info").mkdir()
        (tmp_path / f"{name}.egg-info" / "PKG-INFO").write_text(f"Name: {name}\nVersion: 1.0\n")
    site = tmp_path / "site"
    site.mkdir()
    (site / "mine.egg-link").write_text("..\n")
    (site / "nul.egg-link").write_text("a\0b\n")
    environment = scan([str(site)])
    assert list(environment.distributions) == ["mine"]
    assert [fault.name for fault in environment.faults] == ["nul"]


def test_versions_with_spaces_are_not_taken_from_a_directory_name(tmp_path: Path) -> None:
    """A directory's name that says no clean version is passed over for its METADATA."""
    dist_info(tmp_path, "six", "1.0 ", METADATA="Name: six\nVersion: 1.0\n")
    assert scan([str(tmp_path)]).distributions["six"].version == "1.0"


def test_a_dash_that_may_be_part_of_either_is_settled_by_metadata(tmp_path: Path) -> None:
    """Where a directory's name can be read in two ways, METADATA says which: none is guessed."""
    for directory, name, version in [
        ("foo-1.0-1", "foo", "1.0-1"),
        ("my-pkg-1.0", "my-pkg", "1.0"),
        ("b-2-1", "b-2", "1"),
    ]:
        dist_info(tmp_path, directory, "x").rename(tmp_path / f"{directory}.dist-info")
        (tmp_path / f"{directory}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    environment = scan([str(tmp_path)])
    assert not environment.faults
    found = {name: d.version for name, d in environment.distributions.items()}
    assert found == {"foo": "1.0-1", "my-pkg": "1.0", "b-2": "1"}


def test_metadata_is_not_parsed_where_the_directory_says_it_all(tmp_path: Path) -> None:
    """Name and version of a well-named directory are taken from its name, for dist-info and egg-info alike."""
    dist_info(tmp_path, "one", "1.0", METADATA="not opened")
    (tmp_path / "Two-2.0-py3.11.egg-info").write_text("not opened")
    (tmp_path / "three-3.0.egg-info").mkdir()
    (tmp_path / "three-3.0.egg-info" / "PKG-INFO").write_text("not opened")
    found = {name: d.version for name, d in scan([str(tmp_path)]).distributions.items()}
    assert found == {"one": "1.0", "two": "2.0", "three": "3.0"}


def test_empty_metadata_is_broken(tmp_path: Path) -> None:
    """Metadata of no bytes, as a full disk leaves it, is as good as none."""
    dist_info(tmp_path, "one", "1.0", METADATA="")
    (tmp_path / "two-2.0.egg-info").mkdir()
    (tmp_path / "three-3.0-py3.11.egg-info").write_text("")
    environment = scan([str(tmp_path)])
    assert not environment.distributions
    assert [(fault.kind, fault.name) for fault in environment.faults] == [
        ("broken", "one"),
        ("broken", "three"),
        ("broken", "two"),
    ]


@pytest.mark.parametrize("file", ["INSTALLER", "direct_url.json"])
def test_what_is_there_and_cannot_be_read_is_a_fault(file: str, tmp_path: Path) -> None:
    """An unreadable record may say anything, so it is not taken for none."""
    (dist_info(tmp_path, "one", "1.0") / file).mkdir()
    (tmp_path / "two.dist-info" / "METADATA").mkdir(parents=True)
    environment = scan([str(tmp_path)])
    assert not environment.distributions
    faults = [(fault.kind, fault.name) for fault in environment.faults]
    assert faults == [("unreadable", "one"), ("unreadable", "two")]


def test_a_stray_is_found_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory is the same however sys.path spells it."""
    source, link = tmp_path / "source", tmp_path / "link"
    (source / "mine.egg-info").mkdir(parents=True)
    (source / "mine.egg-info" / "PKG-INFO").write_text("Name: mine\nVersion: 1.0\n")
    link.symlink_to(source)
    monkeypatch.chdir(source)
    for place in (".", str(link), f"{source}{os.sep}"):
        assert [fault.kind for fault in scan([place]).faults] == ["stray"]


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 100_000])
def test_a_long_record_is_read_to_its_end(size: int, tmp_path: Path) -> None:
    """However long a direct_url.json is, all of it counts."""
    record = json.dumps({"note": "", "url": "https://host/x.whl", "archive_info": {}})
    record = record.replace('"note": "', '"note": "' + "x" * (size - len(record)))
    assert len(record) == size
    dist_info(tmp_path, "one", "1.0", direct_url_json=record)
    assert scan([str(tmp_path)]).distributions["one"].origin == FromArchive("https://host/x.whl")
