"""A client gives the archive of each of its conda packages, from a package cache or rebuilt from the prefix."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import pytest
from conda_channel import (
    PLACEHOLDER,
    PYTHON,
    SUBDIR,
    Channel,
    Package,
    call_rattler,
    made_up_distribution,
    make_prefix,
)
from hypothesis import given
from hypothesis import strategies as st

from dask_pkgsync import WheelError
from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.conda.archive_file import ArchiveFile, StoredFrame
from dask_pkgsync.conda.archives import ArchivePacker
from dask_pkgsync.conda.package_caches import package_caches
from dask_pkgsync.conda.prefix import CondaSources, build_prefix
from dask_pkgsync.conda.tool import own_rattler
from dask_pkgsync.model.blobs import BlobRequest, blob_from_wire, blob_to_wire, request_for, request_for_conda
from dask_pkgsync.options import person
from dask_pkgsync.scanning.conda_content import look_at
from dask_pkgsync.scanning.conda_meta import prefix_on
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.snapshot import Snapshot, verified
from dask_pkgsync.wheels.pack import Packer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dask_pkgsync.model.environments.conda import CondaPackage

SITE = f"lib/python{PYTHON}/site-packages"


@pytest.fixture(autouse=True)
def _no_package_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no package cache of this machine be found."""
    for name in ("CONDA_PKGS_DIRS", "CONDA_EXE", "CONDARC", "MAMBA_ROOT_PREFIX", "RATTLER_CACHE_DIR", "PIXI_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return the client's cache."""
    return open_cache(str(tmp_path / "our-cache"))


@pytest.fixture(scope="session")
def installed(conda_channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prefix of the usual channel, which is gone: nothing must be changed in it."""
    root = tmp_path_factory.mktemp("installed-a")
    copied = Channel(root / "channel")
    shutil.copytree(conda_channel.root, copied.root)
    prefix = make_prefix(copied.url, root / "prefix")
    shutil.rmtree(copied.root)
    return prefix


@pytest.fixture(scope="session")
def small_channel(conda_channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Channel:
    """Return a channel with packages of the usual one, and a Python that is none, as it is quickly installed."""
    channel = Channel(tmp_path_factory.mktemp("small") / "channel")
    python = Package("python", f"{PYTHON}.0", "h0_0_cpython")
    python.add(f"{SITE}/README.txt", "Here are the distributions.\n")
    channel.add(python)
    for archive in conda_channel.root.glob("*/*"):
        if archive.name.startswith(("libfoo-2.2", "greeter-1.1", "twins")):
            (channel.root / archive.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(archive, channel.root / archive.parent.name)
    channel.index()
    return channel


@pytest.fixture
def prefix(small_channel: Channel, tmp_path: Path) -> Path:
    """Return a prefix of the small channel, which is gone: files may be changed in it."""
    here = tmp_path / "small"
    here.symlink_to(small_channel.root)
    made = make_prefix(here.as_uri(), tmp_path / "prefix", ["libfoo", "greeter", "twins"])
    here.unlink()
    return made


def packages(prefix: Path) -> dict[str, CondaPackage]:
    """Return the packages that the scan finds in a prefix, by name."""
    found = prefix_on([str(prefix / SITE)])
    assert found is not None
    return {record.package.name: record.package for record in found.records}


def looked_at(prefix: Path) -> dict[str, CondaPackage]:
    """Return the packages of a prefix after a look at their files."""
    return {one.name: one for one in look_at(packages(prefix).values(), prefix)}


def packer(prefix: Path, cache: Cache) -> ArchivePacker:
    """Return what gives the packages of a prefix, as they are now."""
    return ArchivePacker(looked_at(prefix), prefix, cache)


def packed(prefix: Path, cache: Cache, name: str) -> Path:
    """Return the archive of a package; its announcement passes the checks of whoever receives it."""
    one = packer(prefix, cache)
    blob, path = one.pack(request_for_conda(one.packages[name]))
    assert blob_from_wire(blob_to_wire(blob)) == blob
    assert hashlib.sha256(path.read_bytes()).hexdigest() == blob.digest
    assert path.stat().st_size == blob.size
    return path


def archive_of(channel: Channel, stem: str) -> Path:
    """Return the archive in a channel whose file name begins so."""
    (found,) = channel.root.glob(f"*/{stem}*")
    return found


def unpacked(archive: Path, directory: Path) -> Path:
    """Unpack an archive as installers do, and return the directory."""
    call_rattler(
        "from rattler.package_streaming import extract\nextract(argv[0], argv[1])", str(archive), str(directory)
    )
    return directory


def installed_from(archives: Iterable[Path], names: Iterable[str], directory: Path) -> Path:
    """Install archives in another prefix."""
    channel = Channel(directory / "channel")
    for subdir in ("noarch", SUBDIR):
        (channel.root / subdir).mkdir(parents=True)
    for archive in archives:
        with tarfile.open(fileobj=BytesIO(_part(archive, "info"))) as tar:
            info = tar.extractfile("info/index.json")
            assert info is not None
            shutil.copy(archive, channel.root / json.load(info)["subdir"])
    channel.index()
    return make_prefix(channel.url, directory / "prefix", names)


def files_in(prefix: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of each file of a prefix, and the target of each link, without the records."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in prefix.rglob("*"):
        place = path.relative_to(prefix).as_posix()
        if path.is_symlink():
            found[place] = (0, os.fsencode(path.readlink()))
        elif not place.startswith("conda-meta") and not path.is_dir() and path.name != "CACHEDIR.TAG":
            found[place] = (stat.S_IMODE(path.stat().st_mode), path.read_bytes().replace(bytes(prefix), b"PREFIX"))
    return found


def edit(path: Path, text: str) -> None:
    """Change a file as an editor does, which writes it anew: it is a hard link into the package cache."""
    data, mode = path.read_bytes(), path.stat().st_mode
    path.unlink()
    path.write_bytes(data + text.encode())
    path.chmod(mode)
    later(path)


def later(path: Path) -> None:
    """Give a file a time after those of all records: an edit in the same moment may have the same."""
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 60_000_000_000))


def test_rebuilt_packages_are_the_originals(installed: Path, cache: Cache, tmp_path_factory: Any) -> None:
    """All packages of a prefix, Python included, rebuilt and installed elsewhere differ in no byte, mode or link."""
    one = packer(installed, cache)
    assert all(package.modified == 0 for package in one.packages.values())
    found = [one.pack(request_for_conda(package)) for package in one.packages.values()]
    assert {blob.note for blob, _ in found} == {""}
    other = installed_from([path for _, path in found], one.packages, tmp_path_factory.mktemp("installed-b"))
    assert len(str(other)) == len(str(installed))  # else the NUL bytes after a prefix would differ
    assert files_in(other) == files_in(installed)
    for record in installed.glob("conda-meta/*.json"):
        before, after = (json.loads((root / "conda-meta" / record.name).read_text()) for root in (installed, other))
        assert recorded(before) == recorded(after)
        kept = ("name", "version", "build", "build_number", "depends", "constrains", "subdir", "noarch", "timestamp")
        assert {key: before.get(key) for key in kept} == {key: after.get(key) for key in kept}


def recorded(record: Mapping[str, Any]) -> dict[str, tuple[object, ...]]:
    """Return what a record says about each file that was in the archive."""
    kept = ("path_type", "sha256", "size_in_bytes", "prefix_placeholder", "file_mode")
    entries = record["paths_data"]["paths"]
    return {
        entry["_path"]: tuple(entry.get(key) for key in kept) for entry in entries if entry["path_type"] == "hardlink"
    }


def test_one_prefix_gives_one_archive(prefix: Path, tmp_path: Path) -> None:
    """Whoever rebuilds a package of a prefix gets the same bytes; a second request rebuilds nothing."""
    first, second = (open_cache(str(tmp_path / name)) for name in ("one", "two"))
    for name in looked_at(prefix):
        path = packed(prefix, first, name)
        assert path.read_bytes() == packed(prefix, second, name).read_bytes()
        made = path.stat().st_ino
        assert packed(prefix, first, name).stat().st_ino == made


@pytest.mark.parametrize("digest", ["sha256", "md5"])
def test_an_archive_in_a_package_cache_is_given_as_it_is(
    digest: str, conda_channel: Channel, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs the recorded digest; one that is damaged or of another build is passed over, and the package rebuilt."""
    prefix = make_prefix(conda_channel.url, tmp_path / "prefix", ["libfoo=2.1"])
    (record,) = prefix.glob("conda-meta/libfoo-*.json")
    facts = json.loads(record.read_text())
    del facts["md5" if digest == "sha256" else "sha256"]
    record.write_text(json.dumps({**facts, "url": "https://example.com/libfoo-2.1-h1_0.tar.bz2"}))
    pkgs = tmp_path / "pkgs"
    pkgs.mkdir()
    original = archive_of(conda_channel, "libfoo-2.1")
    kept = Path(shutil.copy(original, pkgs))
    assert packed(prefix, cache, "libfoo").suffix == ".conda"
    monkeypatch.setenv("CONDA_PKGS_DIRS", f"{tmp_path / 'none'},{pkgs}")
    assert packed(prefix, cache, "libfoo") == kept
    for damaged in (original.read_bytes()[:-1], original.read_bytes()[:-1] + b"?"):
        kept.write_bytes(damaged)
        assert packed(prefix, cache, "libfoo").suffix == ".conda"


def test_an_archive_of_a_local_file_is_given_from_there(conda_channel: Channel, tmp_path: Path, cache: Cache) -> None:
    """Where the record names a file of this machine, no package cache is needed."""
    prefix = make_prefix(conda_channel.url, tmp_path / "prefix", ["libfoo=2.1"])
    assert packed(prefix, cache, "libfoo") == archive_of(conda_channel, "libfoo-2.1")


def test_package_caches_are_found_where_tools_have_them(tmp_path: Path) -> None:
    """By variables, by conda's configuration, beside the root and in the home; broken configuration is passed over."""
    home, root = tmp_path / "home", tmp_path / "conda"
    (root / "envs" / "mine").mkdir(parents=True)
    home.mkdir()
    channels = "channels: [https://user:secret@example.com/t/tok/main]"
    (home / ".condarc").write_text(f"pkgs_dirs:\n  - ~/fast/pkgs\n{channels}\n")
    (root / ".condarc").write_text("pkgs_dirs: [\n")
    (home / ".mambarc").write_text("- no\n- mapping\n")
    (tmp_path / "own").write_text("pkgs_dirs: 7\n")
    environment = {"CONDA_PKGS_DIRS": f"/a{os.pathsep}/b", "CONDARC": str(tmp_path / "own"), "RATTLER_CACHE_DIR": "/r"}
    found = list(package_caches(root / "envs" / "mine", environment))
    expected = [Path("/a"), Path("/b"), home / "fast/pkgs", root / "pkgs", home / ".conda/pkgs", Path("/r/pkgs")]
    assert [path for path in found if path in expected] == expected
    assert home / ".cache" / "rattler" / "cache" / "pkgs" in found
    assert not [path for path in found if "secret" in str(path)]


def test_edited_files_are_found_and_travel_as_they_are(prefix: Path, cache: Cache, tmp_path: Path) -> None:
    """The package gets another identity, and the note names the files; elsewhere they have the prefix of that place."""
    before = looked_at(prefix)["libfoo"]
    assert (before.modified, before.content) == (0, "")
    for root in (prefix, other := Path(shutil.copytree(prefix, tmp_path / "other", symlinks=True))):
        edit(root / "share/foo/data.txt", "edited\n")
        edit(root / "etc/foo.conf", f"more = {prefix}/more\n")
        (root / "etc/conda/activate.d/foo.sh").unlink()
    now = looked_at(prefix)["libfoo"]
    assert now.modified == 3
    assert request_for_conda(now).identity == now.content != before.identity
    assert not request_for_conda(before).is_met_by(now)
    blob, path = packer(prefix, cache).pack(request_for_conda(now))
    for name in ("share/foo/data.txt", "etc/foo.conf", "etc/conda/activate.d/foo.sh (missing)"):
        assert name in blob.note
    files = unpacked(path, tmp_path / "unpacked")
    assert (files / "share/foo/data.txt").read_text() == "data of 2.2\nedited\n"
    assert (files / "etc/foo.conf").read_text() == f"root = {PLACEHOLDER}/share\nmore = {PLACEHOLDER}/more\n"
    assert not (files / "etc/conda/activate.d/foo.sh").exists()
    again = installed_from([path], ["libfoo"], tmp_path / "again")
    assert (again / "etc/foo.conf").read_text() == f"root = {again}/share\nmore = {again}/more\n"
    assert all(one.modified == 0 for one in looked_at(again).values())  # they are what this archive says
    assert looked_at(other)["libfoo"].modified == 3


def test_a_sync_looks_at_conda_packages_and_gives_their_archives(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the prefix of the process's own interpreter; a request for a wheel is answered by the same object."""
    monkeypatch.syspath_prepend(str(prefix / SITE))
    edit(prefix / "share/foo/data.txt", "edited\n")
    snapshot = Snapshot(verified(scan_installed()))
    conda = snapshot.environment.conda
    assert {name: one.modified for name, one in conda.items() if one.modified} == {"libfoo": 1}
    only = verified(scan_installed(), only=["greeter"]).conda
    assert not any(one.modified for one in only.values())
    with dask.config.set({"pkgsync.cache-directory": str(tmp_path / "cache")}):
        give = person.packer(snapshot).pack
        assert "share/foo/data.txt" in give(request_for_conda(conda["libfoo"]))[0].note
        assert give(request_for(snapshot.environment.distributions["greeter"]))[1].suffix == ".whl"
        with pytest.raises(WheelError, match="does not have this conda package"):
            give(BlobRequest("absent", "1.0", "", "0"))
    with pytest.raises(WheelError, match="does not have it"):  # in an environment that no conda has made
        Packer(snapshot, open_cache(str(tmp_path / "cache"))).pack(request_for_conda(conda["libfoo"]))


def test_a_node_has_what_the_client_has_edited(prefix: Path, cache: Cache, tmp_path: Path) -> None:
    """The prefix that it builds is the client's, edits included, in the scan and after a look at the files."""
    edit(prefix / "share/foo/data.txt", "edited\n")
    edit(prefix / SITE / "greeter.py", "# edited\n")
    (prefix / SITE / "twin_one.py").unlink()
    one = packer(prefix, cache)
    assert [name for name, package in one.packages.items() if package.modified] == ["greeter", "libfoo", "twins"]

    def fetch(requests: Sequence[BlobRequest]) -> dict[BlobRequest, tuple[Path, str]]:
        found = {request: one.pack(request) for request in requests}
        return {request: (path, blob.note) for request, (blob, path) in found.items()}

    rattler = own_rattler()
    assert rattler is not None
    node = open_cache(str(tmp_path / "node"))
    wanted = tuple(one.packages.values())
    built = build_prefix(wanted, node, lambda: rattler, CondaSources("client", fetch), timeout=100)
    assert (built.root / "share/foo/data.txt").read_text() == "data of 2.2\nedited\n"
    assert not (built.root / SITE / "twin_one.py").exists()
    for found in (packages(built.root), looked_at(built.root)):
        assert all(found[package.name].is_same_build(package) for package in wanted)
        assert {package.label for package in found.values()} == {package.label for package in wanted}
    again = packer(built.root, cache)  # and whoever works in such a prefix is a client like any other
    blob, _ = again.pack(request_for_conda(one.packages["libfoo"]))
    assert blob.note == ""


def test_content_does_not_depend_on_the_prefix(conda_channel: Channel, tmp_path: Path) -> None:
    """Two people who have made the same edit have the same package; another edit is another package."""
    contents = []
    for name, text in (("one", "same"), ("another", "same"), ("third", "other")):
        prefix = make_prefix(conda_channel.url, tmp_path / name, ["libfoo=2.1"])
        edit(prefix / "etc/foo.conf", text)
        contents.append(looked_at(prefix)["libfoo"].content)
    assert contents[0] == contents[1] != contents[2]


def test_what_installers_and_python_make_is_no_content(prefix: Path, cache: Cache, tmp_path: Path) -> None:
    """Bytecode and generated scripts may change or go; the commands of the package stay."""
    (script,) = prefix.glob("bin/greet")
    edit(script, "# changed\n")
    (prefix / SITE / "__pycache__").mkdir(exist_ok=True)
    (prefix / SITE / "__pycache__" / "greeter.pyc").write_bytes(b"stale")
    assert looked_at(prefix)["greeter"].modified == 0
    files = unpacked(packed(prefix, cache, "greeter"), tmp_path / "unpacked")
    assert json.loads((files / "info/link.json").read_text())["noarch"] == {
        "type": "python",
        "entry_points": ["greet = greeter:main"],
    }
    assert not list(files.rglob("*.pyc"))
    assert not (files / "python-scripts").exists()


def test_a_command_of_which_nothing_says_what_it_runs_is_named(prefix: Path, cache: Cache) -> None:
    """Its script is gone, and no distribution of the package declares it."""
    (prefix / "bin/greet").unlink()
    with pytest.raises(WheelError, match="what its command greet runs: bin/greet is changed or missing"):
        packed(prefix, cache, "greeter")
    info = prefix / SITE / f"greeter-{looked_at(prefix)['greeter'].version}.dist-info"
    record = next(prefix.glob("conda-meta/greeter-*.json"))
    facts = json.loads(record.read_text())
    text = b"[console_scripts]\ngreet = greeter:main\n"
    (info / "entry_points.txt").write_bytes(text)
    place = (info / "entry_points.txt").relative_to(prefix).as_posix()
    entry = {"_path": place, "path_type": "hardlink", "sha256": hashlib.sha256(text).hexdigest()}
    facts["paths_data"]["paths"].append({**entry, "size_in_bytes": len(text)})
    record.write_text(json.dumps(facts))
    assert packed(prefix, cache, "greeter")


def test_files_that_change_after_the_scan_are_named(prefix: Path, cache: Cache) -> None:
    """The archive has what was scanned, or there is none: all files are named, with what to do, and nothing is left."""
    scanned = packer(prefix, cache)
    edit(prefix / "share/foo/data.txt", "x")
    (prefix / "bin/foo").unlink()
    with pytest.raises(WheelError) as caught:
        scanned.pack(request_for_conda(scanned.packages["libfoo"]))
    assert "share/foo/data.txt" in caught.value.problem
    assert "bin/foo (missing)" in caught.value.problem
    assert "Run the sync again" in caught.value.advice
    again = packer(prefix, cache)
    edit(prefix / "share/foo/data.txt", "y")
    with pytest.raises(WheelError, match="not those that the scan found"):
        again.pack(request_for_conda(again.packages["libfoo"]))
    assert not list(cache.building.iterdir())


def test_a_request_for_another_package_says_what_is_here(prefix: Path, cache: Cache) -> None:
    """The name, the version, the build and the digest must be those of the scan."""
    one = packer(prefix, cache)
    foo = one.packages["libfoo"]
    for wrong in (
        BlobRequest("numpy", "1.0", "", "0"),
        BlobRequest("libfoo", "2.0", "", foo.build),
        BlobRequest("libfoo", foo.version, "", "h9_9"),
        BlobRequest("libfoo", foo.version, "0" * 64, foo.build),
    ):
        with pytest.raises(WheelError, match="the environment of this client") as caught:
            one.pack(wrong)
        assert caught.value.package == f"{wrong.name} {wrong.version} {wrong.build}"


@pytest.mark.parametrize("hint", ["scripts", "text", "binary"])
def test_a_prefix_that_was_moved_gives_the_originals(hint: str, prefix: Path, cache: Cache, tmp_path: Path) -> None:
    """Where it was is found out from the files that still name that place."""
    original = packed(prefix, cache, "libfoo").read_bytes()
    moved = prefix.rename(tmp_path / "moved-to-another-place")
    if hint != "scripts":
        shutil.rmtree(moved / "bin")
        record = next(moved.glob("conda-meta/libfoo-*.json"))
        facts = json.loads(record.read_text())
        left_out = ("bin/", "etc/") if hint == "binary" else ("bin/",)
        paths = facts["paths_data"]["paths"]
        facts["paths_data"]["paths"] = [one for one in paths if not one["_path"].startswith(left_out)]
        record.write_text(json.dumps(facts))
        later(record)
    assert looked_at(moved)["libfoo"].modified == 0
    path = packed(moved, cache, "libfoo")
    if hint == "scripts":
        assert path.read_bytes() == original
    else:
        (library,) = unpacked(path, tmp_path / "unpacked").glob("lib/libfoo.so.*")
        assert f"{PLACEHOLDER}/share/foo\0".encode() in library.read_bytes()


def test_a_file_that_cannot_be_restored_comes_from_an_unpacked_package_or_is_named(
    conda_channel: Channel, prefix: Path, cache: Cache
) -> None:
    """An installer may have changed more than the prefix, as where programs are signed."""
    record = next(prefix.glob("conda-meta/libfoo-*.json"))
    path = prefix / "lib/libfoo.so.2.2"
    path.unlink()
    path.write_bytes(b"\x7fELF signed anew\0")
    facts = json.loads(record.read_text())
    (entry,) = (one for one in facts["paths_data"]["paths"] if one["_path"] == "lib/libfoo.so.2.2")
    entry["sha256_in_prefix"] = hashlib.sha256(path.read_bytes()).hexdigest()
    record.write_text(json.dumps(facts))
    later(record)
    with pytest.raises(WheelError, match=r"cannot be taken out again of lib/libfoo\.so\.2\.2") as caught:
        packed(prefix, cache, "libfoo")
    assert "channel" in caught.value.advice
    extracted = unpacked(archive_of(conda_channel, "libfoo-2.2"), prefix / "pkgs" / "libfoo-2.2-h2_1")
    record.write_text(json.dumps({**facts, "fn": "libfoo-2.2-h2_1.tar.bz2"}))
    with tarfile.open(fileobj=BytesIO(_part(packed(prefix, cache, "libfoo"), "pkg"))) as tar:
        member = tar.extractfile("lib/libfoo.so.2.2")
        assert member is not None
        assert member.read() == (extracted / "lib/libfoo.so.2.2").read_bytes()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"_path": "../outside"}, "no path below the prefix"),
        ({"_path": "/etc/passwd"}, "no path below the prefix"),
        ({"_path": "share/../../x"}, "no path below the prefix"),
        ({"sha256": None}, "no digests of its files"),
    ],
)
def test_a_record_that_is_none_is_refused(change: dict[str, object], problem: str, prefix: Path, cache: Cache) -> None:
    """No file outside of the prefix is read, and nothing is given that cannot be checked."""
    record = next(prefix.glob("conda-meta/libfoo-*.json"))
    facts = json.loads(record.read_text())
    facts["paths_data"]["paths"][-1].update(change)
    record.write_text(json.dumps(facts))
    scanned = packages(prefix)["libfoo"]
    assert look_at([scanned], prefix) == [scanned]
    with pytest.raises(WheelError, match=problem):
        ArchivePacker({"libfoo": scanned}, prefix, cache).pack(request_for_conda(scanned))


def test_a_package_without_a_record_is_refused(prefix: Path, cache: Cache) -> None:
    """It was removed after the scan."""
    scanned = packages(prefix)["libfoo"]
    next(prefix.glob("conda-meta/libfoo-*.json")).unlink()
    with pytest.raises(WheelError, match=r"its record in .* cannot be read: No such file"):
        ArchivePacker({"libfoo": scanned}, prefix, cache).pack(request_for_conda(scanned))


def test_no_credential_travels(prefix: Path, cache: Cache) -> None:
    """Installers write the URLs with which they have downloaded into records, with user, password and token."""
    record = next(prefix.glob("conda-meta/libfoo-*.json"))
    facts = json.loads(record.read_text())
    url = "https://ann:s3cret@conda.example.com/t/t0ken/main"
    facts |= {"url": f"{url}/linux-64/{facts['fn']}", "channel": url}
    facts["depends"] = [*facts["depends"], f"{url}::libbar >=1"]
    record.write_text(json.dumps(facts))
    later(record)
    one = packer(prefix, cache)
    blob, path = one.pack(request_for_conda(one.packages["libfoo"]))
    for secret in ("s3cret", "t0ken", "ann:"):
        assert secret.encode() not in path.read_bytes()
        assert secret not in repr(blob)
    assert b"https://conda.example.com/main::libbar >=1" in path.read_bytes()
    facts["paths_data"]["paths"][-1]["sha256"] = ""
    record.write_text(json.dumps(facts))
    with pytest.raises(WheelError) as caught:
        one.pack(request_for_conda(one.packages["libfoo"]))
    assert "s3cret" not in str(caught.value)


def test_a_file_that_rattler_has_renamed_gets_its_own_name_again(tmp_path: Path, cache: Cache) -> None:
    """Two packages have a file of one path: one of them is kept beside it, under another name."""
    channel, site = Channel(tmp_path / "channel"), "site-packages/tests/__init__.py"
    for name in ("one", "two"):
        package = Package(name, "1.0", "pyh0_0", noarch="python")
        made_up_distribution(package, name, "1.0")
        package.add(site, f"# of {name}\n")
        channel.add(package)
    python = Package("python", f"{PYTHON}.0", "h0_0_cpython")
    python.add(f"{SITE}/README.txt", "Here are the distributions.\n")
    channel.add(python)
    channel.index()
    prefix = make_prefix(channel.url, tmp_path / "prefix", ["python", "one", "two"])
    shutil.rmtree(channel.root)
    for name in ("one", "two"):
        assert looked_at(prefix)[name].modified == 0
        files = unpacked(packed(prefix, cache, name), tmp_path / name)
        assert (files / site).read_text() == f"# of {name}\n"


def _part(archive: Path, name: str) -> bytes:
    """Return a part of an archive that is not compressed."""
    with zipfile.ZipFile(archive) as bundle:
        (member,) = (one for one in bundle.namelist() if one.startswith(f"{name}-"))
        return b"".join(_blocks(bundle.read(member)))


def _blocks(frame: bytes) -> Iterator[bytes]:
    """Yield the raw blocks of a frame of Zstandard (RFC 8878, 3.1.1.2)."""
    assert frame[:4] == b"\x28\xb5\x2f\xfd"
    position, is_last = 6, 0
    while not is_last:
        header = int.from_bytes(frame[position : position + 3], "little")
        is_last, kind, size = header & 1, header >> 1 & 3, header >> 3
        assert kind == 0
        assert size <= 1 << 17
        yield frame[position + 3 : position + 3 + size]
        position += 3 + size
    assert position == len(frame)


@given(st.lists(st.sampled_from([0, 1, 1000, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, 3 << 17]), max_size=6))
def test_a_frame_holds_what_was_written(sizes: list[int]) -> None:
    """However it is cut into writes, no block is larger than the format allows, and only the last may be short."""
    file = BytesIO()
    frame, whole = StoredFrame(file), b""
    for number, size in enumerate(sizes):
        data = bytes([number + 1]) * size
        assert frame.write(data) == size
        whole += data
    frame.close()
    blocks = list(_blocks(file.getvalue()))
    assert b"".join(blocks) == whole
    assert all(len(block) == 1 << 17 for block in blocks[:-1])


def test_an_archive_of_more_than_four_gigabytes_is_readable(tmp_path: Path) -> None:
    """Its entries have 64-bit sizes from the beginning; installers read these for small archives, too."""
    archive = ArchiveFile(tmp_path / "large-1.0-0.conda", 1, 5_000_000_000)
    data = os.urandom(300_000)
    for part, name, content in (("pkg", "share/data", data), ("info", "info/index.json", b"{}")):
        with archive.part(part) as tar:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    archive.close()
    files = unpacked(tmp_path / "large-1.0-0.conda", tmp_path / "unpacked")
    assert (files / "share/data").read_bytes() == data


def test_packages_with_unusual_files_are_rebuilt(tmp_path: Path, cache: Cache) -> None:
    """Long and foreign names, empty files, modes, links to directories, and bytecode that the package itself has."""
    package = Package("unusual", "1!2.0", "0")
    package.add(f"share/{'long/' * 40}name", "x")
    package.add("share/größe 数.txt", b"")
    package.add("bin/program", b"\x7fELF", 0o755)
    package.add("share/private", "x", 0o600)
    package.add("lib/module.py", "x = 1\n")
    package.add("lib/__pycache__/module.cpython-312.pyc", b"bytecode")
    package.add("lib/__pycache__/other.cpython-312.pyc", b"other")
    package.files["share/link"] = type(package.files["share/private"])(link="long")
    channel = Channel(tmp_path / "channel")
    channel.add(package)
    channel.index()
    prefix = make_prefix(channel.url, tmp_path / "prefix", ["unusual"])
    before = unpacked(archive_of(channel, "unusual-1"), tmp_path / "before")
    shutil.rmtree(channel.root)
    os.utime(prefix / "lib/module.py", (10**9, 10**9))
    edit(prefix / "lib/__pycache__/other.cpython-312.pyc", "by Python")
    scanned = next(iter(looked_at_in(prefix).values()))
    assert scanned.modified == 0
    _, path = ArchivePacker({"unusual": scanned}, prefix, cache).pack(request_for_conda(scanned))
    after = unpacked(path, tmp_path / "after")
    expected = {name: facts for name, facts in files_in(before).items() if not name.startswith("info/")}
    del expected["lib/__pycache__/other.cpython-312.pyc"]
    assert {name: facts for name, facts in files_in(after).items() if not name.startswith("info/")} == expected
    assert (after / "lib/module.py").stat().st_mtime == 10**9


def looked_at_in(prefix: Path) -> dict[str, CondaPackage]:
    """Return the packages of a prefix without Python."""
    (prefix / SITE).mkdir(parents=True, exist_ok=True)
    return looked_at(prefix)
