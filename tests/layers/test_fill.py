"""A layer is filled from the index, the client or the base, whichever has what is needed."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from package_index import wheel

from dask_pkgsync.layers.fill import FROM_INDEX, Filler, Sources
from dask_pkgsync.layers.layer import Base
from dask_pkgsync.layers.layout import SITE_PACKAGES
from dask_pkgsync.model.blobs import BlobRequest
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.origin import FromVcs
from dask_pkgsync.model.errors import InconsistentEnvironmentWarning, WheelError
from dask_pkgsync.model.plan import Install, Keep, Plan
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.consistency import conflicts
from dask_pkgsync.scanning.installed import scan_installed, this_interpreter
from dask_pkgsync.scanning.records import dist_infos

if TYPE_CHECKING:
    from collections.abc import Sequence


class Recorder:
    """An installer that notes what it is asked for, and fails as it is told."""

    name = "recorder"

    def __init__(self, *failures: LayerError) -> None:
        self.failures = list(failures)
        self.asked: list[list[str]] = []
        self.indexes: list[Any] = []

    def install(
        self, environment: Path, requirements: Sequence[str], *, final: Path, timeout: float, indexes: Any
    ) -> None:
        self.asked.append(list(requirements))
        self.indexes.append(indexes)
        if self.failures:
            raise self.failures.pop(0)
        for requirement in requirements:
            name = requirement.partition(" @ ")[0].partition("==")[0]
            info = environment / SITE_PACKAGES / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "RECORD").write_text(f"{info.name}/RECORD,,\n{info.name}/direct_url.json,sha256=x,2\n")
            (info / "direct_url.json").write_text("{}")

    def install_cached(self, environment: Path, requirements: Sequence[str], **rest: Any) -> bool:
        (environment / SITE_PACKAGES / "half-installed.py").write_text("")
        return False

    def resolve(self, *args: Any, **rest: Any) -> tuple[str, ...]:
        raise NotImplementedError


class Client:
    """What a client would answer."""

    def __init__(self, directory: Path, *has: str, tag: str = "py3-none-any") -> None:
        self.directory, self.has, self.tag = directory, has, tag
        self.asked: list[str] = []

    def __call__(self, requests: Sequence[BlobRequest]) -> dict[BlobRequest, tuple[Path, str]]:
        self.asked += [request.name for request in requests]
        found = {}
        for request in requests:
            if request.name not in self.has:
                raise LayerError("pack", f"{request.name} cannot be packed", advice="Name it in ignore.")
            filename, content = wheel(request.name, request.version)
            path = self.directory / filename.replace("py3-none-any", self.tag)
            path.write_bytes(content)
            found[request] = path, f"a note on {request.name}"
        return found


COMMIT = FromVcs("https://example.org/x.git", "c0ffee")
NO_VERSION = LayerError("install", "no such version", packages=("two==1.0",), index_at_fault=True, advice="Look there.")
TARGET = {name: Distribution(name, "1.0") for name in ("one", "two", "three")} | {
    "four": Distribution("four", "1.0", COMMIT)
}


def fill(tmp_path: Path, installer: Recorder, client: Client, transport: str, plan: Plan | None = None) -> Any:
    """Fill a layer, and return the notes."""
    plan = plan or Plan((Install("one", "1.0"), Install("two", "1.0"), Install("three", "1.0")))
    base = Base(Path(sys.executable), (tmp_path / "base",), Environment.of(this_interpreter(), []))
    sources = Sources(transport, client, target=TARGET)
    (tmp_path / "work").mkdir()
    _, notes = Filler(plan, base, lambda: installer, sources, 60).fill(tmp_path / "work" / "layer", tmp_path / "final")
    return notes


def test_only_what_no_index_can_have_comes_from_the_client(tmp_path: Path) -> None:
    """Local code is asked for at once, and signed with where the client has it from."""
    installer, client = Recorder(), Client(tmp_path, "four")
    plan = Plan((Install("one", "1.0"), Install("four", "1.0", "c0ffee")))
    assert fill(tmp_path, installer, client, "index", plan) == ("a note on four",)
    assert client.asked == ["four"]
    ((local, pinned),) = installer.asked
    assert pinned == "one==1.0"
    assert local.startswith("four @ file://")
    info = dist_infos(tmp_path / "work" / "layer" / SITE_PACKAGES)["four"]
    assert json.loads((info / "direct_url.json").read_text())["vcs_info"]["commit_id"] == "c0ffee"
    lines = (info / "RECORD").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"{info.name}/RECORD", f"{info.name}/direct_url.json"]
    assert str((info / "direct_url.json").stat().st_size) == lines[1].rpartition(",")[2]


def test_what_the_index_does_not_give_comes_from_the_client(tmp_path: Path) -> None:
    """First what the installer blames; in the end everything."""
    installer, client = Recorder(NO_VERSION), Client(tmp_path, "one", "two", "three")
    fill(tmp_path, installer, client, "auto")
    assert client.asked == ["two"]
    assert installer.asked[1][2].startswith("two @ file:")


def test_an_index_that_cannot_be_reached_leaves_everything_to_the_client(tmp_path: Path) -> None:
    """Nothing is blamed, so all of it is asked for."""
    unreachable = LayerError("install", "the index could not be reached", index_at_fault=True)
    installer, client = Recorder(unreachable), Client(tmp_path, "one", "two", "three")
    fill(tmp_path, installer, client, "auto")
    assert sorted(client.asked) == ["one", "three", "two"]


@pytest.mark.parametrize(
    ("transport", "failure"),
    [("index", NO_VERSION), ("auto", LayerError("install", "no space left", packages=("two==1.0",)))],
)
def test_other_failures_stay_failures(transport: str, failure: LayerError, tmp_path: Path) -> None:
    """The client cannot help a full disk, and is not asked where only the index counts."""
    client = Client(tmp_path, "one", "two", "three")
    with pytest.raises(LayerError, match=failure.problem):
        fill(tmp_path, Recorder(failure), client, transport)
    assert not client.asked


def test_what_neither_has_is_told_of_both(tmp_path: Path) -> None:
    """The person reads why the index did not give it, and why the client could not."""
    with pytest.raises(LayerError) as caught:
        fill(tmp_path, Recorder(NO_VERSION), Client(tmp_path, "one"), "auto")
    assert caught.value.problem == "no such version; and the client cannot give it: two cannot be packed"
    assert caught.value.advice == "Look there. Name it in ignore."
    assert caught.value.packages == ("two==1.0",)


def base_at(root: Path, *, recorded: bool = True) -> Path:
    """Make a directory whose base has a distribution of its own."""
    info = root / "base" / "mine-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py3-none-any\n")
    (info / "METADATA").write_text("Name: mine\nVersion: 2.0\n")
    if recorded:
        (info / "RECORD").write_text(f"{info.name}/WHEEL,,\n{info.name}/METADATA,,\n")
    return root


ALONE = Plan((Install("one", "1.0"), Keep("mine", "2.0")), complete=True)


def test_without_an_index_what_only_the_base_has_comes_from_there(tmp_path: Path) -> None:
    """A layer that stands alone holds it, too; what cannot be packed there is told."""
    installer, client = Recorder(), Client(tmp_path, "one")
    fill(base_at(tmp_path / "recorded"), installer, client, "client", ALONE)
    assert client.asked == ["one"]
    assert installer.asked[0][0].endswith("/mine-2.0-py3-none-any.whl")
    assert installer.indexes[0].no_index
    with pytest.raises(LayerError, match=r"of the base: mine 2\.0: nothing records"):
        fill(base_at(tmp_path / "not", recorded=False), Recorder(), client, "client", ALONE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayerError, match="has no dist-info directory"):
        fill(tmp_path / "empty", Recorder(), client, "client", ALONE)


def test_a_wheel_for_another_platform_is_told_with_both(tmp_path: Path) -> None:
    """Compiled code of the client does not fit everywhere."""
    client = Client(tmp_path, "four", tag="cp39-cp39-win_amd64")
    with pytest.raises(LayerError, match=r"four 1\.0 is built for cp39-cp39-win_amd64, and this node is cp3") as caught:
        fill(tmp_path, Recorder(), client, "index", Plan((Install("four", "1.0", "c0ffee"),)))
    assert "ignore" in caught.value.advice


def test_a_wheel_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    """Before any installer sees it."""

    def lying(requests: Sequence[BlobRequest]) -> dict[BlobRequest, tuple[Path, str]]:
        path = tmp_path / "four-1.0-py3-none-any.whl"
        path.write_bytes(wheel("other", "1.0")[1])
        return {requests[0]: (path, "")}

    installer = Recorder()
    with pytest.raises(LayerError, match="its wheel is refused"):
        fill(tmp_path, installer, lying, "index", Plan((Install("four", "1.0", "c0ffee"),)))  # type: ignore[arg-type]
    assert not installer.asked


def test_without_a_client_local_code_is_an_error() -> None:
    """Nobody else has it."""
    with pytest.raises(LayerError, match=r"only a client can give four 1\.0"):
        FROM_INDEX.fetch([BlobRequest("four", "1.0")])


def test_requirements_that_do_not_hold_are_listed(tmp_path: Path) -> None:
    """What is missing or in another version is told; extras, other platforms and odd lines are passed over."""
    for name, lines in {
        "one": [
            "Requires-Dist: two>=2",
            "Requires-Dist: missing>1",
            "Requires-Dist: optional; extra == 'more'",
            "Requires-Dist: elsewhere; sys_platform == 'amiga'",
            "Requires-Dist: ???",
            "",
            "Requires-Dist: in-the-description",
        ],
        "two": [],
        "three": ["Requires-Dist: two (<2)"],
    }.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("\n".join([f"Name: {name}", "Version: 1.0", *lines, ""]))
    environment = scan_installed([str(tmp_path)])
    assert conflicts(environment, [str(tmp_path)]) == (
        "one 1.0 requires two>=2, and 1.0 is installed",
        "one 1.0 requires missing>1, which is not installed",
    )
    warning = str(InconsistentEnvironmentWarning(("a requires b",)))
    assert "the cluster gets it as it is" in warning
    assert "  a requires b" in warning
    (tmp_path / "two-1.0.dist-info" / "METADATA").unlink()
    assert conflicts(environment, [str(tmp_path)])


def test_an_error_of_a_wheel_reads_well() -> None:
    """What, why, the words of the build, what to do."""
    text = str(WheelError("mine 1.0", "it broke", advice="Mend it.", last_words="boom\x1b[31m\nbang"))
    assert text == (
        "mine 1.0: it broke\n  the last words of the build:\n  | boom?[31m\n  | bang\n  what to do: Mend it."
    )


class Builds(Recorder):
    """An installer whose index has other builds than the client."""

    def __init__(self, client: str = "client") -> None:
        super().__init__()
        self.client = client
        """The digest of the file in what the client gives."""

    def install(self, environment: Path, requirements: Sequence[str], **rest: Any) -> None:
        super().install(environment, requirements, **rest)
        assert not (environment / SITE_PACKAGES / "half-installed.py").exists()
        site_packages = environment / SITE_PACKAGES
        for requirement in requirements:
            name, _, url = requirement.partition(" @ ")
            build = self.client if url else "index"
            info = site_packages / f"{name.partition('==')[0]}-1.0.dist-info"
            (info / "RECORD").write_text(f"{info.name}/RECORD,,\nmodule.py,sha256={build},2\n")


def digest(build: str) -> str:
    """Return the content digest of what `Builds` installs."""
    return hashlib.sha256(f"module.py,sha256={build}".encode()).hexdigest()


ONE_AND_TWO = Plan((Install("one", "1.0", content=digest("client")), Install("two", "1.0", content=digest("index"))))


def test_where_the_index_has_another_build_the_client_gives_its_own(tmp_path: Path) -> None:
    """The build of the index stays where it is the client's, too."""
    installer, client = Builds(), Client(tmp_path, "one", "two")
    assert fill(tmp_path, installer, client, "auto", ONE_AND_TWO) == ("a note on one",)
    assert client.asked == ["one"]
    first, second = installer.asked
    assert first == ["one==1.0", "two==1.0"]
    assert second[0].startswith("one @ file://")
    assert second[1] == "two==1.0"


class HasThemInItsCache(Builds):
    """An installer that has everything in its cache, in a build that the client had or not."""

    def __init__(self, build: str) -> None:
        super().__init__()
        self.build = build
        self.asked_cache: list[list[str]] = []

    def install_cached(self, environment: Path, requirements: Sequence[str], **rest: Any) -> bool:
        self.asked_cache.append(list(requirements))
        Recorder.install(Recorder(), environment, requirements, **rest)
        for info in (environment / SITE_PACKAGES).glob("*.dist-info"):
            (info / "RECORD").write_text(f"{info.name}/RECORD,,\nmodule.py,sha256={self.build},2\n")
        return True


THREE = Plan(tuple(Install(name, "1.0", content=digest("index")) for name in ("one", "two", "three")))


def test_what_the_installer_has_in_its_cache_is_taken_without_asking_an_index(tmp_path: Path) -> None:
    """If it is the client's build of everything, as its content shows."""
    installer = HasThemInItsCache("index")
    assert fill(tmp_path, installer, Client(tmp_path), "auto", THREE) == ()
    assert installer.asked_cache == [["one==1.0", "three==1.0", "two==1.0"]]
    assert not installer.asked


def test_another_build_in_the_cache_is_no_answer(tmp_path: Path) -> None:
    """The index may have the client's build by now, so it is asked before the client is."""
    installer, client = HasThemInItsCache("earlier"), Client(tmp_path, "one")
    assert fill(tmp_path, installer, client, "auto", THREE) == ()
    assert len(installer.asked_cache) == len(installer.asked) == 1
    assert not client.asked


@pytest.mark.parametrize(
    ("transport", "plan"),
    [
        ("auto", Plan((*THREE.steps, Install("four", "1.0")))),
        ("client", Plan((Install("one", "1.0", content=digest("client")),))),
    ],
)
def test_what_cannot_be_verified_by_its_content_is_not_taken_from_the_cache(
    tmp_path: Path, transport: str, plan: Plan
) -> None:
    """Without a digest nobody could tell what it is; and what the client gives needs no cache."""
    installer = HasThemInItsCache("index")
    fill(tmp_path, installer, Client(tmp_path, "one"), transport, plan)
    assert not installer.asked_cache
    assert len(installer.asked) == 1


def test_a_build_that_cannot_run_here_is_told_and_that_of_the_index_stays(tmp_path: Path) -> None:
    """Its wheel is for another platform: the layer names it, so that workers do not look for it."""
    plan = Plan((Install("one", "1.0", content=digest("client")),))
    base = Base(Path(sys.executable), (tmp_path / "base",), Environment.of(this_interpreter(), []))
    sources = Sources("auto", Client(tmp_path, "one", tag="cp39-cp39-win_amd64"), target=TARGET)
    filler = Filler(plan, base, Builds, sources, 60)
    (tmp_path / "work").mkdir()
    _, (note,) = filler.fill(tmp_path / "work" / "layer", tmp_path / "final")
    assert "one 1.0 is built for cp39-cp39-win_amd64" in note
    assert note.endswith("it has the build of the index")
    assert filler.other_builds == ["one"]


def test_without_the_client_another_build_is_an_error(tmp_path: Path) -> None:
    """Whoever lets only the index give packages decides what that means."""
    with pytest.raises(LayerError, match=r"other builds of one==1\.0 than the client") as caught:
        fill(tmp_path, Builds(), Client(tmp_path, "one"), "index", ONE_AND_TWO)
    assert "builds='warn'" in caught.value.advice


def test_a_client_whose_files_have_changed_meanwhile_is_told(tmp_path: Path) -> None:
    """What it gives is not what its environment had."""
    with pytest.raises(LayerError, match=r"wheels of one==1\.0 do not have the files"):
        fill(tmp_path, Builds("edited"), Client(tmp_path, "one"), "auto", ONE_AND_TWO)
