"""Clusters that reach no index get everything from the client, once per host, and nothing that is damaged."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters import Person, on_workers, running, uv
from package_index import Index, command_lines, serving
from uv import find_uv_bin

from dask_pkgsync.cache import trees

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import Cluster, Venvs

pytestmark = pytest.mark.cluster

NO_INDEX = {
    "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
    "UV_HTTP_RETRIES": "0",
    "UV_NO_CONFIG": "1",
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_FIND_LINKS": "",
}
"""What the nodes of a cluster without an index see: one that cannot be reached."""

FILES = """
def files_of(names):
    import hashlib, importlib.metadata, os
    found = {}
    for name in names:
        for file in importlib.metadata.distribution(name).files:
            path, text = file.locate(), str(file)
            ours = text.endswith((".pyc", "/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json", "/uv_cache.json"))
            if not ours and "/bin/" not in text:
                mode = bool(os.stat(path).st_mode & 0o111)
                found[text] = (hashlib.sha256(path.read_bytes()).hexdigest(), mode)
    return found
"""


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Return somebody with an environment of their own."""
    return Person(tmp_path / "person")


@pytest.mark.parametrize(
    ("transport", "ignored", "on_path"),
    [
        ("client", [], ""),
        pytest.param("client", ["uv"], "", marks=pytest.mark.slow),
        pytest.param("auto", ["uv"], find_uv_bin(), marks=pytest.mark.slow),
    ],
)
def test_a_cluster_without_an_index_gets_everything_from_the_client(
    transport: str, ignored: list[str], on_path: str, person: Person, tmp_path: Path, venvs: Venvs
) -> None:
    """numpy, pandas, pyarrow and all the rest arrive file by file as they are: with the client's uv, pip, or uv."""
    person.install("numpy==2.2.6", *([] if ignored and not on_path else ["pandas==2.2.3", "pyarrow==18.1.0"]))
    if ignored:
        person.uninstall(*ignored)
    env = {
        **NO_INDEX,
        "PATH": os.pathsep.join([*filter(None, [on_path and str(Path(on_path).parent)]), "/usr/bin", "/bin"]),
    }
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cluster" / "cache", workers=2, env=env) as cluster:
        found = person.run(
            cluster,
            FILES
            + f"""
results = {{}}
report = pkgsync.sync(client, progress=False, transport={transport!r})
names = [name for name in pkgsync.scan(modules=False).distributions if name not in ("dask-pkgsync", "pip")]
here = files_of(names)
results["same"] = [there == here for there in everywhere(files_of, names)]
results["files"] = len(here)
results["numpy"] = everywhere(call, "import numpy; answer = numpy.__version__")
events = [event for _, event in client.get_events("pkgsync")]
results["uploaded"] = [event["package"] for event in events if event["action"] == "uploaded"]
results["served"] = [event["package"] for event in events if event["action"] == "served"]
print(json.dumps(results))
""",
        )
    assert found["same"] == [True, True]
    assert found["files"] > 500
    fetched = list((cluster.cache / "tools").glob("*/uv"))
    assert bool(fetched) is (not ignored)
    assert found["numpy"] == ["2.2.6"] * 2
    uploaded: list[Any] = found["uploaded"]
    assert len(uploaded) == len(set(uploaded))  # each once, however many nodes ask
    assert not found["served"]  # the scheduler shares its host's disk
    assert any(name.startswith("numpy-2.2.6") for name in uploaded)


BLOB = """
    import os
    from dask_pkgsync.client import blob_provider as supplier
    read, offsets = supplier._read, []
    def watched(path, offset):
        if "large" in str(path):  # and not the wheel of uv, for the node's installer
            offsets.append(offset)
            {fault}
        return read(path, offset)
    supplier._read = watched
"""
DATA_SIZE = 40_000_000


@pytest.fixture
def data(person: Person) -> Person:
    """Return somebody with a large package beside the script."""
    person.write(
        {"large/__init__.py": "from pathlib import Path\ndata = Path(__file__).with_name('data.bin')\n"}, "job"
    )
    (person.home / "job" / "large" / "data.bin").write_bytes(os.urandom(DATA_SIZE))
    return person


@pytest.mark.slow
def test_an_upload_is_resumed_and_fetched_once_per_host(data: Person, tmp_path: Path, venvs: Venvs) -> None:
    """A client that is killed half-way leaves a part, from which the next one goes on; each host fetches once."""
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "scheduler-cache", workers=0) as cluster:
        for host in ("one", "two"):
            env = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(tmp_path / f"cache-{host}")}
            cluster.add_worker("--nworkers", "2", name=host, **env)
        killed = BLOB.format(fault="if offset >= 24_000_000: os.kill(os.getpid(), 9)")
        script = "client.wait_for_workers(4)\n" + "pkgsync.sync(client, progress=False)\n"
        done = data.run(cluster, textwrap.dedent(killed) + script, check=False)
        assert done.returncode == -9
        resumed = textwrap.dedent(BLOB.format(fault="pass")) + script
        found = data.run(
            cluster,
            resumed
            + """
events = [event for _, event in client.get_events("pkgsync")]
sizes = everywhere(call, "import large; answer = large.data.stat().st_size")
again = pkgsync.sync(client, progress=False).changed
print(json.dumps([offsets, sizes, again, [event for event in events if event["action"] in ("uploaded", "served")]]))
""",
        )
    offsets, sizes, again, events = found
    assert 0 not in offsets
    assert min(offsets) >= 8_000_000  # what was there was not sent again
    assert sizes == [DATA_SIZE] * 4
    assert again is False
    large = [event for event in events if event["package"].startswith("module_large")]
    assert sorted(event["action"] for event in large) == ["served", "served", "uploaded"]
    assert DATA_SIZE < sum(event["bytes"] for event in large if event["action"] == "served") < 2 * DATA_SIZE
    assert not list((tmp_path / "scheduler-cache" / "building").iterdir())


@pytest.mark.slow
def test_a_restarted_scheduler_has_what_was_uploaded(data: Person, tmp_path: Path, venvs: Venvs) -> None:
    """A scheduler that comes after another one on its host serves the blobs again; a damaged one is sent anew."""
    sync = textwrap.dedent(BLOB.format(fault="pass")) + (
        "client.wait_for_workers(1)\npkgsync.sync(client, progress=False)\n"
        "sizes = everywhere(call, 'import large; answer = large.data.stat().st_size')\n"
        "print(json.dumps([offsets, sizes]))\n"
    )
    for attempt, uploads in ((0, True), (1, False), (2, True)):
        root = tmp_path / f"cluster{attempt}"
        root.mkdir()
        with running(root, venvs.base(), tmp_path / "scheduler-cache", workers=0) as cluster:
            cluster.add_worker(name="worker", DASK_PKGSYNC__CACHE_DIRECTORY=str(root / "cache"))
            offsets, sizes = data.run(cluster, sync)
        assert sizes == [DATA_SIZE]
        assert any(offset > 8_000_000 for offset in offsets) is uploads
        (blob,) = (tmp_path / "scheduler-cache" / "blobs").glob("*/module_large-*.whl")
        if attempt == 1:
            content = bytearray(blob.read_bytes())
            content[1000] ^= 1
            blob.write_bytes(content)
            trees.remove(tmp_path / "scheduler-cache" / "layers")


@pytest.mark.slow
def test_wheels_can_go_through_a_store_of_ones_own(data: Person, tmp_path: Path, venvs: Venvs) -> None:
    """With a URL that fsspec knows nothing goes through the scheduler; every host fetches for itself."""
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "scheduler-cache", workers=0) as cluster:
        cluster.add_worker(name="worker", DASK_PKGSYNC__CACHE_DIRECTORY=str(tmp_path / "worker-cache"))
        found = data.run(
            cluster,
            f"""
            client.wait_for_workers(1)
            pkgsync.sync(client, progress=False, store={(tmp_path / "store").as_uri()!r})
            sizes = everywhere(call, 'import large; answer = large.data.stat().st_size')
            actions = [event["action"] for _, event in client.get_events("pkgsync")]
            print(json.dumps([sizes, sorted({{"uploaded", "served"}} & set(actions))]))
            """,
        )
    assert found == [[DATA_SIZE], []]
    assert len(list((tmp_path / "store").glob("*/module_large-*.whl"))) == 1


SECRET = "hunter2-of-the-private-index"


def test_a_private_package_arrives_and_its_password_does_not(person: Person, tmp_path: Path, venvs: Venvs) -> None:
    """What comes from an index with a password is shipped from the client; the password is in nothing that travels.

    The nodes have an index with a password too, and settings that were made for other calls of uv and pip.
    """
    seen: set[str] = set()
    with serving(Index()) as index, serving(Index()) as of_nodes:
        index.add("private-thing", "1.0")
        of_nodes.add("thing-of-nodes", "1.0")
        of_nodes.user = f"node:{SECRET}"
        of_nodes.asked = lambda: seen.update(line for line in command_lines() if SECRET in line)
        env = {
            "UV_INDEX": of_nodes.url.replace("://", f"://{of_nodes.user}@"),
            "UV_REQUIRE_HASHES": "1",
            "UV_EXCLUDE_NEWER": "2001-01-01",
            "UV_LINK_MODE": "symlink",
            **dict.fromkeys(("UV_CONSTRAINT", "PIP_CONSTRAINT", "PIP_LOG", "GIT_DIR"), str(tmp_path / "nowhere")),
        }
        private = index.url.replace("://", f"://me:{SECRET}@")
        uv(["pip", "install", "--python", person.venv.python, "--index", private, "private-thing"])
        (tmp_path / "cluster").mkdir()
        with running(tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=1, env=env) as cluster:
            found = person.run(
                cluster,
                """
                client.wait_for_workers(1)
                report = pkgsync.sync(client, progress=False, extra=["thing-of-nodes"])
                versions = everywhere(call, "import private_thing; answer = private_thing.__version__")
                versions += everywhere(call, "import thing_of_nodes; answer = thing_of_nodes.__version__")
                told = [str(report), report._repr_html_(), str(pkgsync.status(client))]
                told += [repr(client.get_events("pkgsync"))]
                told += [client.run_on_scheduler(lambda dask_scheduler: repr([
                    vars(dask_scheduler.extensions["pkgsync"]),
                    dask_scheduler.nanny_plugins,
                    dask_scheduler.worker_plugins,
                ]))]
                print(json.dumps([versions, told]))
                """,
                UV_INDEX=private,
            )
            logs = cluster.logs()
            written = [
                path
                for path in (tmp_path / "cache").rglob("*")
                if path.is_file() and "uv" not in path.parts and SECRET.encode() in path.read_bytes()
            ]
    versions, told = found
    assert versions == ["1.0", "1.0"]
    assert not seen
    assert not (tmp_path / "nowhere").exists()
    assert not [text for text in [*told, logs] if SECRET in text]
    assert not written


@pytest.mark.slow
def test_a_full_store_is_told(data: Person, tmp_path: Path, venvs: Venvs) -> None:
    """A blob that does not fit on the scheduler fails the sync with the way out, and changes nothing."""
    (tmp_path / "cluster").mkdir()
    env = {"DASK_PKGSYNC__STORE_SIZE": "10 MB"}
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=1, env=env) as cluster:
        done = data.run(cluster, "client.wait_for_workers(1)\npkgsync.sync(client, progress=False)\n", check=False)
        assert done.returncode == 1
        assert "does not fit" in done.stderr
        assert "Raise pkgsync.store-size" in done.stderr
        assert "No node was changed" in done.stderr


def test_a_directory_that_is_too_large_is_told_with_its_largest_files(
    data: Person, tmp_path: Path, venvs: Venvs
) -> None:
    """Before anything travels the person is told what is so large and how to leave it out."""
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=1) as cluster:
        done = data.run(
            cluster, "pkgsync.sync(client, progress=False)\n", check=False, DASK_PKGSYNC__MODULES_LIMIT="1 MB"
        )
        assert done.returncode == 1
        assert "data.bin (40.0 MB)" in done.stderr
        assert "modules-limit" in done.stderr


@pytest.mark.slow
def test_a_project_that_cannot_be_built_is_told_with_the_words_of_its_build(
    person: Person, tmp_path: Path, venvs: Venvs
) -> None:
    """A build that fails, or hangs, fails the sync with its own last words; nothing is changed."""
    project = person.write(
        {
            "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
            "setup.py": """
                import os, sys
                try:
                    import undeclared_thing
                except ImportError:
                    if os.path.exists("broken"):
                        sys.exit("this build wants the undeclared thing")
                from setuptools import setup
                setup(name="crick-like", version="1.0", py_modules=["crick_like"])
                """,
            "crick_like.py": "",
        },
        "project",
    )
    person.install("-e", str(project))
    (project / "broken").write_text("")
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=1) as cluster:
        script = "client.wait_for_workers(1)\npkgsync.sync(client, progress=False)\n"
        done = person.run(cluster, script, check=False)
        assert "crick-like 1.0: the wheel of the project in" in done.stderr
        assert "this build wants the undeclared thing" in done.stderr
        assert "No node was changed" in done.stderr
        person.install("setuptools")
        person.write({"undeclared_thing.py": ""}, "../venv/lib/python{}.{}/site-packages".format(*sys.version_info[:2]))
        done = person.run(cluster, script + "print(everywhere(call, 'import crick_like; answer = 1'))", check=False)
        assert done.stdout.strip() == "[1]", done.stderr  # with what is installed here, though it is not declared
        (project / "setup.py").write_text("import time; time.sleep(1000)")
        done = person.run(cluster, script, check=False, DASK_PKGSYNC__BUILD_TIMEOUT="3s")
        assert "did not end within 3 s" in done.stderr


STAYS = """
import time
from pathlib import Path
pkgsync.sync(client, progress=False)
mark = Path("mark")
mark.with_suffix(".new").write_text(str(os.getpid()))
mark.with_suffix(".new").rename(mark)
while mark.exists():
    time.sleep(0.05)
print(json.dumps("stayed"))
"""
BOTH = "json.dumps(everywhere(call, 'import of_ann, of_ben; answer = [of_ann.whose, of_ben.whose]'))"


@dataclass
class Two:
    """Ann, who has synced a module of hers and stays, and Ben, who has another one."""

    cluster: Cluster
    ann: int
    """The number of her process."""
    ben: Person

    def lose_what_ann_sent(self) -> None:
        """Remove it from the scheduler's disk, where it has become too old: Ann is asked for it again."""
        assert self.cluster.cache is not None
        for directory in (self.cluster.cache / "blobs").iterdir():
            shutil.rmtree(directory)


@pytest.fixture
def two(tmp_path: Path, venvs: Venvs) -> Iterator[Two]:
    """Return Ann and Ben on one cluster of one worker."""
    people = {}
    for name in ("ann", "ben"):
        people[name] = Person(tmp_path / name)
        people[name].write({f"of_{name}.py": f"whose = '{name}'\n"}, "job")
    (tmp_path / "cluster").mkdir()
    mark = people["ann"].home / "mark"
    with (
        running(tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=1) as cluster,
        ThreadPoolExecutor() as threads,
    ):
        anns = threads.submit(people["ann"].run, cluster, STAYS)
        try:
            cluster.wait_for(lambda: mark.exists() or anns.done(), "Ann's sync")
            assert mark.exists(), anns.exception()
            yield Two(cluster, int(mark.read_text()), people["ben"])
        finally:
            mark.unlink(missing_ok=True)  # so that Ann goes
        assert anns.result() == "stayed"


@pytest.mark.slow
def test_who_is_stopped_keeps_others_waiting_for_no_longer_than_the_patience(two: Two) -> None:
    """The error names who does not answer; once that process runs on, the same sync succeeds."""

    def silent(dask_scheduler: Any, patience: float = 9.0) -> int:
        providers = dask_scheduler.extensions["pkgsync"].blob_service.providers
        providers.patience = patience
        return len(providers.silent)

    sync = f"pkgsync.sync(client, progress=False)\nprint({BOTH})"
    with two.cluster.client() as client:
        assert client.run_on_scheduler(silent) == 0
        two.lose_what_ann_sent()
        os.kill(two.ann, signal.SIGSTOP)
        try:
            refused = two.ben.run(two.cluster, sync, check=False).stderr
            assert client.run_on_scheduler(silent) == 1
        finally:
            os.kill(two.ann, signal.SIGCONT)
        assert re.search(r"module-of-ann \S+ is only to be had from \S+@\S+: connected, but no answer for 9 s", refused)
        assert "No node was changed" in refused
        two.cluster.wait_for(lambda: client.run_on_scheduler(silent) == 0, "a sign of Ann")
        client.run_on_scheduler(silent, patience=60.0)  # whoever answers now is in time, however busy this machine is
    assert two.ben.run(two.cluster, sync) == [["ann", "ben"]]


def whose() -> list[str]:
    """Return whose modules are there."""
    import importlib  # this function travels without its module

    return [importlib.import_module(name).whose for name in ("of_ann", "of_ben")]


def test_one_who_uses_a_store_gets_what_others_send_to_the_scheduler(two: Two, tmp_path: Path) -> None:
    """Ben's wheels go through his store, Ann's do not; a host that comes later gets both."""
    two.lose_what_ann_sent()
    store = (tmp_path / "store").as_uri()
    assert two.ben.run(two.cluster, f"print(json.dumps(pkgsync.sync(client, progress=False, store={store!r}).changed))")
    assert [path.name.split("-")[0] for path in (tmp_path / "store").glob("*/*.whl")] == ["module_of_ben"]
    two.cluster.add_worker(name="late", DASK_PKGSYNC__CACHE_DIRECTORY=str(tmp_path / "late-cache"))
    with two.cluster.client(2) as client:
        assert list(on_workers(client, whose).values()) == [["ann", "ben"]] * 2
