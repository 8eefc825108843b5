"""Prefixes on nodes: exactly the client's packages from a real channel, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import SOURCE
from conda_channel import Channel, greeter, make_prefix, serving, tiny_channel, write_package
from conda_prefixes import SMALL, build, files_of, packages_in, scanned, tool

import dask_pkgsync
from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.carry.archive import CLIENT_ONLY
from dask_pkgsync.carry.bootstrap import zipped
from dask_pkgsync.conda import program
from dask_pkgsync.conda.archives import ArchivePacker
from dask_pkgsync.layers.layer import layer_from_wire, layer_to_wire
from dask_pkgsync.layers.publication import changes_in
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.conda_content import look_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dask_pkgsync.model.blobs import BlobRequest
    from dask_pkgsync.model.environments.conda import CondaPackage


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    """Return a channel whose packages are small; nothing of Python's is run from them."""
    return tiny_channel(tmp_path_factory.mktemp("channel"))


@pytest.fixture(scope="module")
def client(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a client's environment."""
    return make_prefix(channel.url, tmp_path_factory.mktemp("client") / "prefix", SMALL)


@pytest.fixture
def packages(client: Path) -> tuple[CondaPackage, ...]:
    """Return the packages of the client's environment."""
    return scanned(client)


def only(packages: Sequence[CondaPackage], *names: str) -> list[CondaPackage]:
    """Return the packages of some names."""
    return [package for package in packages if package.name in names]


def said(*argv: Path | str) -> str:
    """Run a program and return what it printed."""
    return subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=True).stdout.strip()


def nothing_is_left(cache: Cache) -> bool:
    """Whether nothing is visible of what was not finished."""
    return not list(cache.layers.iterdir()) and not list(cache.building.iterdir())


def unpacked(cache: Cache, name: str) -> Path:
    """Return the directory in the package cache of one package."""
    (found,) = (path for path in cache.root.glob(f"conda/*/packages/{name}-[0-9]*") if path.is_dir())
    return found


class Client:
    """Gives archives to nodes, as the client of a sync does."""

    def __init__(self, archives: Mapping[str, Path]) -> None:
        self.archives = archives
        self.asked: list[str] = []

    def __call__(self, requests: Sequence[BlobRequest]) -> Mapping[BlobRequest, tuple[Path, str]]:
        self.asked += [request.name for request in requests]
        lacking = [request.label for request in requests if request.name not in self.archives]
        if lacking:
            raise LayerError("pack", f"the client lacks {', '.join(lacking)}", advice="Install it there.")
        return {request: (self.archives[request.name], f"{request.name} is the client's") for request in requests}


def archives_of(channel: Channel, packages: Sequence[CondaPackage]) -> dict[str, Path]:
    """Return the archives of packages of a channel, by the name of the package."""
    return {one.name: channel.root / one.subdir / one.filename for one in packages}


def test_a_prefix_is_the_clients_environment_file_by_file(conda_channel: Channel, cache: Cache, tmp_path: Path) -> None:
    """The same packages with the same records and files, and programs that find everything at the final path.

    Modules of the read-only prefix are compiled once, and that is no change of it.
    """
    client = make_prefix(conda_channel.url, tmp_path / "client", SMALL)
    packages = scanned(client)
    prefix = build(packages, cache)
    assert not prefix.reused
    assert prefix.whole == str(prefix.root)
    assert layer_from_wire(layer_to_wire(prefix)).whole == prefix.whole
    assert packages_in(prefix.root) == packages_in(client)
    assert files_of(prefix.root) == files_of(client)
    assert said(prefix.bin / "greet") == "hello from 1.0 pyh0_0"
    assert said(prefix.bin / "foo") == f"{prefix.root} 2.2"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    argv = [prefix.python, "-v", "-c", "import twin_one, twin_two, ssl, sqlite3, greeter"]
    compiled = [
        subprocess.run(argv, capture_output=True, text=True, check=True, env=environ).stderr.count("# created '")
        for _ in range(2)
    ]
    assert compiled[0] > 2
    assert compiled[1] == 0
    again = build(packages, cache, tool=lambda: pytest.fail("it is there already"))
    assert again.reused
    assert not changes_in(again)
    assert (prefix.site_packages / "twin_one.py").stat().st_nlink > 1, "its files are those of the package cache"
    assert "never changed" in json.loads((prefix.root / "conda-meta" / "frozen").read_text())["message"]
    assert (again.digest, again.root, again.whole, again.built) == (
        *(prefix.digest, prefix.root, prefix.whole, prefix.built),
    )


def test_a_changed_prefix_is_built_anew(client: Path, packages: tuple[CondaPackage, ...], cache: Cache) -> None:
    """A file that was replaced, and one that was removed, are as they were after the next build."""
    prefix = build(packages, cache)
    module = prefix.site_packages / "greeter.py"
    module.parent.chmod(0o755)
    module.unlink()
    module.write_text("changed\n")
    (prefix.root / "etc").chmod(0o755)
    (prefix.root / "etc" / "foo.conf").unlink()
    again = build(packages, cache)
    assert "greeter.py was replaced" in again.notes[-1]
    assert files_of(again.root) == files_of(client)
    assert not changes_in(again)


@pytest.mark.parametrize("path", ["share/foo/data.txt", "etc/foo.conf", "lib/libfoo.so.2.2"])
def test_what_was_changed_in_the_package_cache_is_found_and_fetched_again(
    path: str, packages: tuple[CondaPackage, ...], cache: Cache
) -> None:
    """Also where the prefix is written into a file: its digest afterwards would be right for wrong contents."""
    build(only(packages, "libfoo", "python"), cache)
    file = unpacked(cache, "libfoo") / path
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"!")
    prefix = build(packages, cache)
    assert (unpacked(cache, "libfoo") / path).read_bytes() == content
    assert not (prefix.root / path).read_bytes().endswith(b"!")


def test_a_damaged_file_that_comes_again_from_its_source_is_refused(
    packages: tuple[CondaPackage, ...], cache: Cache, tmp_path: Path
) -> None:
    """What cannot be verified in a second attempt is told with package and file, and is never visible."""
    bad = greeter()
    info = bad.info()
    bad.info = lambda: info  # type: ignore[method-assign]
    bad.add("site-packages/greeter.py", bad.files["site-packages/greeter.py"].data[:-1] + b"#")
    archive = write_package(bad, tmp_path)
    damaged = [replace(one, url="", sha256="", md5="") if one.name == "greeter" else one for one in packages]
    with pytest.raises(LayerError, match=r"greeter=1\.0=pyh0_0: .*greeter\.py does not have the recorded") as caught:
        build(damaged, cache, "auto", Client({"greeter": archive}))
    assert caught.value.step == "verify"
    assert caught.value.packages == ("greeter=1.0=pyh0_0",)
    assert nothing_is_left(cache)


def test_an_archive_that_was_damaged_on_the_disk_is_not_used(
    client: Path, packages: tuple[CondaPackage, ...], cache: Cache, channel: Channel
) -> None:
    """It does not have the digest that is its name, and is fetched again."""
    libfoo = only(packages, "libfoo")[0]
    with pytest.raises(LayerError):  # the archives arrive, and one is missing
        build([*packages, replace(libfoo, name="other", url="", sha256="")], cache)
    (archive,) = cache.root.glob(f"conda/*/archives/{libfoo.sha256}/*")
    archive.write_bytes(archive.read_bytes()[:-1])
    assert files_of(build(packages, cache).root) == files_of(client)


def test_channels_get_the_nodes_own_credentials_and_records_none(
    channel: Channel, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's password is not in what is sent; the node's is in no record and in no error."""
    with serving(channel, "user:hunter-7") as served:
        client = make_prefix(served.with_password, tmp_path / "client", SMALL)
        packages = scanned(client)
        assert "hunter-7" not in str(packages)
        with pytest.raises(LayerError, match="401") as caught:
            build(packages, cache)
        assert len(caught.value.packages) == len(packages), "all are named at once"
        assert caught.value.problem.count("401") == 1, "for one reason"
        assert nothing_is_left(cache)
        monkeypatch.setenv("RATTLER_AUTH_FILE", served.auth_file(tmp_path))
        prefix = build(packages, cache)
        assert packages_in(prefix.root) == packages_in(client)
        fetched = [path for path in served.asked if path.endswith((".conda", ".tar.bz2"))]
        build(only(packages, "libfoo", "python"), cache)
        assert [path for path in served.asked if path.endswith((".conda", ".tar.bz2"))] == fetched
    for path in (cache.root).rglob("*"):
        if path.is_file() and path.suffix in (".json", ".txt", ".lock", ""):
            assert b"hunter-7" not in path.read_bytes()


def test_what_the_channel_does_not_have_comes_from_the_client(
    packages: tuple[CondaPackage, ...], channel: Channel, cache: Cache, tmp_path: Path
) -> None:
    """With ``auto`` the client is asked for that alone; its note is told."""
    with serving(channel) as served:
        client = make_prefix(served.url, tmp_path / "client", SMALL)
        packages = scanned(client)
        served.missing = {one.filename for one in only(packages, "twins", "libfoo")}
        with pytest.raises(LayerError, match="these 2 packages") as caught:
            build(packages, cache)
        assert "transport='auto'" in caught.value.advice
        giving = Client(archives_of(channel, packages))
        prefix = build(packages, cache, "auto", giving)
    assert sorted(giving.asked) == ["libfoo", "twins"]
    assert "twins is the client's" in prefix.notes
    assert packages_in(prefix.root) == packages_in(client)


def test_without_any_channel_everything_comes_from_the_client(
    packages: tuple[CondaPackage, ...], channel: Channel, cache: Cache, tmp_path: Path
) -> None:
    """With ``client`` no channel is asked, and what the host has unpacked is not asked for again."""
    with serving(channel) as served:
        client = make_prefix(served.url, tmp_path / "client", SMALL)
        packages = scanned(client)
        asked = list(served.asked)
        giving = Client(archives_of(channel, packages))
        prefix = build(only(packages, "python", "libfoo"), cache, "client", giving)
        assert giving.asked == ["libfoo", "python"]
        prefix = build(packages, cache, "client", giving)
        assert served.asked == asked
    assert giving.asked == ["libfoo", "python", "greeter", "twins"]
    assert packages_in(prefix.root) == packages_in(client)


def test_what_nobody_has_is_told_with_both_reasons(
    packages: tuple[CondaPackage, ...], channel: Channel, cache: Cache
) -> None:
    """Every package that no source has is in one error, and nothing of the prefix is visible."""
    gone = [
        replace(one, url=f"http://127.0.0.1:1/{one.filename}") if one.name in ("twins", "greeter") else one
        for one in packages
    ]
    with pytest.raises(LayerError, match="the client lacks") as caught:
        build(gone, cache, "auto", Client(archives_of(channel, only(packages, "python"))))
    assert caught.value.packages == ("greeter=1.0=pyh0_0", "twins=1.0=pyh0_0")
    assert "127.0.0.1:1 cannot be reached: " in caught.value.problem
    assert nothing_is_left(cache)


def test_a_local_package_comes_from_the_client_also_with_the_transport_index(
    packages: tuple[CondaPackage, ...], channel: Channel, cache: Cache
) -> None:
    """It is local code: no channel can have it."""
    local = [replace(one, url=f"file:///nowhere/{one.filename}") if one.name == "twins" else one for one in packages]
    giving = Client(archives_of(channel, packages))
    prefix = build(local, cache, "index", giving)
    assert giving.asked == ["twins"]
    assert {one.name: one.url for one in packages_in(prefix.root)}["twins"].startswith("file:///nowhere/")


def test_a_rebuilt_archive_leaves_the_record_of_the_original(
    client: Path, packages: tuple[CondaPackage, ...], cache: Cache, tmp_path: Path
) -> None:
    """Its digest is another one, and is remembered, so that the client is asked for it once per host."""
    rebuilt = greeter("1.0", "pyh0_0")
    rebuilt.suffix = ".tar.bz2"
    giving = Client({"greeter": write_package(rebuilt, tmp_path)})
    gone = [replace(one, url=f"file:///gone/{one.filename}") if one.name == "greeter" else one for one in packages]
    prefix = build(gone, cache, "auto", giving)
    recorded = {one.name: one for one in packages_in(prefix.root)}["greeter"]
    assert recorded == replace(only(gone, "greeter")[0], installed_size=0)
    assert files_of(prefix.root) == files_of(client)
    build(only(gone, "greeter", "python", "libfoo"), cache, "auto", giving)
    assert giving.asked == ["greeter"]


class Packer(Client):
    """Gives what the client rebuilds from its prefix, as a client does whose package caches are gone."""

    def __init__(self, packages: Sequence[CondaPackage], prefix: Path, cache: Cache) -> None:
        super().__init__({})
        self.packer = ArchivePacker({package.name: package for package in packages}, prefix, cache)

    def __call__(self, requests: Sequence[BlobRequest]) -> Mapping[BlobRequest, tuple[Path, str]]:
        self.asked += [request.name for request in requests]
        packed = {request: self.packer.pack(request) for request in requests}
        return {request: (path, blob.note) for request, (blob, path) in packed.items()}


def test_a_prefix_is_built_of_nothing_but_the_clients_prefix(channel: Channel, tmp_path: Path) -> None:
    """Where channel and package caches are gone; files that were edited on the client arrive as they are."""
    client = make_prefix(channel.url, tmp_path / "client", SMALL)
    node, other = open_cache(str(tmp_path / "node")), open_cache(str(tmp_path / "other"))
    packages = look_at(scanned(client), client)
    gone = [replace(one, url=f"http://127.0.0.1:1/{one.filename}", channel="") for one in packages]
    giving = Packer(packages, client, open_cache(str(tmp_path / "of-client")))
    prefix = build(gone, node, "client", giving)
    assert files_of(prefix.root) == files_of(client)
    assert packages_in(prefix.root) == tuple(replace(one, installed_size=0) for one in gone)
    assert look_at(scanned(prefix.root), prefix.root) == list(scanned(prefix.root))

    (client / "etc" / "foo.conf").write_text(f"root = {client}/elsewhere\n")
    edited = look_at(scanned(client), client)
    giving = Packer(edited, client, open_cache(str(tmp_path / "of-client")))
    for cache in (node, other):  # one of them has the unmodified package
        prefix = build(edited, cache, "index", giving)
        assert (prefix.root / "etc" / "foo.conf").read_text() == f"root = {prefix.root}/elsewhere\n"
        assert files_of(prefix.root) == files_of(client)
    assert giving.asked == ["libfoo", "libfoo"]


def test_another_package_than_the_requested_one_is_refused(
    packages: tuple[CondaPackage, ...], channel: Channel, cache: Cache
) -> None:
    """What the client has given is asked for its name, version and build."""
    gone = [replace(one, url="", sha256="", md5="") if one.name == "greeter" else one for one in packages]
    wrong = Client({"greeter": channel.root / "noarch" / "greeter-1.1-pyh0_0.conda"})
    with pytest.raises(LayerError, match=r"hold other files than the client's: greeter=1\.0=pyh0_0"):
        build(gone, cache, "auto", wrong)
    assert nothing_is_left(cache)


def test_no_key_of_a_record_names_a_place_in_the_cache(packages: tuple[CondaPackage, ...], cache: Cache) -> None:
    """A record is as on the client, so that two nodes have the same ones."""
    prefix = build(packages, cache)
    for path in (prefix.root / "conda-meta").glob("*.json"):
        assert str(cache.root / "conda") not in path.read_text()
        assert json.loads(path.read_text())["fn"] in {one.filename for one in packages}


def test_the_program_travels_with_the_source(tmp_path: Path) -> None:
    """Nodes without dask-pkgsync have it as an archive, from which no program can be started."""
    archive = tmp_path / "source.zip"
    archive.write_bytes(zipped(Path(dask_pkgsync.__file__).parent, CLIENT_ONLY))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from dask_pkgsync.conda.installer import program_text\n"
    text = said(sys.executable, "-c", f"{code}sys.stdout.write(program_text().decode())", archive)
    assert text == Path(program.__file__).read_text().strip()


BUILD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from conda_prefixes import build, scanned
from dask_pkgsync.cache.directory import open_cache
packages = [one for one in scanned(Path(sys.argv[1])) if one.name != sys.argv[3]]
print(build(packages, open_cache(sys.argv[2])).reused)
"""


def building(client: Path, cache: Cache, without: str = "") -> subprocess.Popen[str]:
    """Begin to build a prefix of the client's packages in another process."""
    places = [str(client), str(cache.root), without, str(SOURCE), str(Path(__file__).parents[1])]
    return subprocess.Popen([sys.executable, "-c", BUILD, *places], stdout=subprocess.PIPE, text=True)


def test_two_processes_build_one_prefix_once(client: Path, cache: Cache) -> None:
    """Who comes second waits, and uses what the first one has built."""
    running = [building(client, cache) for _ in range(2)]
    assert sorted(process.communicate(timeout=120)[0].strip() for process in running) == ["False", "True"]
    assert len(list(cache.layers.iterdir())) == 1


def test_processes_build_different_prefixes_of_the_same_packages_at_once(client: Path, cache: Cache) -> None:
    """They share the package cache, and what one of them has unpacked it may remove."""
    running = [building(client, cache, without) for without in ("", "twins", "greeter", "libfoo")]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ["False"] * 4
    assert len(list(cache.layers.iterdir())) == 4
    assert not list(cache.root.glob("conda/*/archives/*"))


def fake_rattler(directory: Path, body: str) -> Path:
    """Return the directory of a py-rattler that is the real one but for a fault."""
    (directory / "rattler").mkdir(parents=True)
    text = f"""
import os, sys, time
sys.path.insert(0, {str(tool())!r})
del sys.modules["rattler"]
import rattler
real = rattler.install
async def install(records, prefix, **options):
{body}
rattler.install = install
"""
    (directory / "rattler" / "__init__.py").write_text(text)
    return directory


INSTALLER_KILLED_HALFWAY = """
    await real([one for one in records if one.name.normalized in ("python", "libfoo")], prefix, **options)
    os.kill(os.getpid(), 9)
"""
INSTALLER_CRASHES_WHEN_IT_ENDS = """
    await real(records, prefix, **options)
    os._exit = lambda status: os.kill(os.getpid(), 11)
"""
INSTALLER_HANGS = """
    await real(records, prefix, **options)
    if not os.fork():
        time.sleep(1000)
    time.sleep(1000)
"""


def test_an_installer_that_is_killed_leaves_nothing(
    client: Path, packages: tuple[CondaPackage, ...], cache: Cache, tmp_path: Path
) -> None:
    """A half-filled prefix is removed, and the next build is sound."""
    killed = fake_rattler(tmp_path / "killed", INSTALLER_KILLED_HALFWAY)
    with pytest.raises(LayerError, match="killed by SIGKILL"):
        build(packages, cache, tool=lambda: killed)
    assert nothing_is_left(cache)
    assert files_of(build(packages, cache).root) == files_of(client)


def test_an_installer_that_crashes_when_all_is_done_is_no_failure(
    client: Path, packages: tuple[CondaPackage, ...], cache: Cache, tmp_path: Path
) -> None:
    """Its exit status decides nothing: the verified prefix does."""
    crashing = fake_rattler(tmp_path / "crashing", INSTALLER_CRASHES_WHEN_IT_ENDS)
    assert files_of(build(packages, cache, tool=lambda: crashing).root) == files_of(client)


def test_an_installer_that_hangs_is_ended_with_its_children(
    packages: tuple[CondaPackage, ...], cache: Cache, tmp_path: Path
) -> None:
    """The time limit holds for the whole process group."""
    hanging = fake_rattler(tmp_path / "hanging", INSTALLER_HANGS)
    with pytest.raises(LayerError, match="did not end within 5 s"):
        build(packages, cache, tool=lambda: hanging, timeout=5)
    assert nothing_is_left(cache)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system that has room for the archives of the packages, and not for what is in them."""
    directory = tmp_path / "disk"
    directory.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_too_little_room_is_told_before_anything_is_fetched(packages: tuple[CondaPackage, ...], cache: Cache) -> None:
    """The sizes of the packages are known, and so is the room on the disk."""
    large = [replace(one, installed_size=10**15) if one.name == "python" else one for one in packages]
    with pytest.raises(
        LayerError, match=r"no room for the packages: they need 1,000,000,00\d MB, and [\d,]+ MB are free"
    ):
        build(large, cache)
    assert nothing_is_left(cache)
    assert not list(cache.root.glob("conda/*/archives/*"))


def test_a_disk_that_is_full_all_the_same_is_told(packages: tuple[CondaPackage, ...], small_disk: Path) -> None:
    """Somebody else may fill it meanwhile; then nothing is visible either."""
    cache = open_cache(str(small_disk / "cache"))
    with pytest.raises(LayerError, match="no space left") as caught:
        build([replace(one, size=0, installed_size=0) for one in packages], cache)
    assert "pkgsync.cache-directory" in caught.value.advice
    assert nothing_is_left(cache)
