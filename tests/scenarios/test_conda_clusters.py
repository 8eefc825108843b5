"""A client in a conda environment, on real clusters: the nodes get its prefix, and have only Dask themselves."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from clusters import CRITICAL_PINS, SOURCE, Person, Venv, running
from conda_channel import Channel, make_prefix

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Venvs

pytestmark = pytest.mark.cluster

OURS = (str(SOURCE), "rich", "pathspec", "markdown-it-py", "mdurl", "pygments", "uv")
"""What dask-pkgsync is, and needs on the client."""

SPECS = ("python", "distributed", "libfoo 2.1", "twins", "greeter 1.0 pyh0_0")
"""The conda packages of the client's environment, with what they need."""

LOOK = """
def look(module="helpers", greets=False):
    import importlib, os, shutil, subprocess, sys
    import twin_one
    mine = importlib.import_module(module)
    prefix = os.environ["CONDA_PREFIX"]
    return {
        "pid": os.getpid(),
        "prefix": sys.base_prefix,
        "is its prefix": os.path.realpath(sys.base_prefix) == prefix,
        "foo": subprocess.run(["foo"], capture_output=True, text=True).stdout.split(),
        "greeter": __import__("greeter").__version__ if greets else "",
        "twin": twin_one.__version__,
        "six": __import__("six").__version__,
        "mine": mine.NUMBER,
        "FOO_HOME": os.environ.get("FOO_HOME"),
        "data": open(os.path.join(sys.prefix, "share", "foo", "data.txt")).read(),
        "library": open(os.path.join(prefix, "lib", "libfoo.so"), "rb").read().count(prefix.encode()),
    }

def synced(**options):
    report = pkgsync.sync(client, progress=False, **options)
    return {"ok": report.ok, "outcomes": sorted(node.outcome for node in report.nodes if node.role != "scheduler"),
            "installed": sorted({one for node in report.nodes for one in node.installed}), "text": str(report),
            "replaced": sorted({one for node in report.nodes for one in node.replaced}),
            "fetched": sum(node.fetched for node in report.nodes)}
"""


class CondaPerson(Person):
    """Somebody with a conda environment, in which dask-pkgsync is installed with uv."""

    def __init__(self, root: Path, channel: Channel, *packages: str) -> None:
        self.home = root / "home"
        self.home.mkdir(parents=True)
        self.channel = channel
        self.venv = Venv(make_prefix(channel.url, root / "prefix", SPECS))
        self.install("--no-deps", *OURS, "six==1.16.0", *packages)

    def update(self, *specs: str) -> None:
        """Replace conda packages of the environment."""
        kept = [spec for spec in SPECS if spec.split()[0] not in {new.split()[0] for new in specs}]
        make_prefix(self.channel.url, self.venv.root, (*kept, *specs))


@pytest.fixture
def channel(conda_channel: Channel, tmp_path: Path) -> Channel:
    """Return a channel that this test may take away."""
    return Channel(shutil.copytree(conda_channel.root, tmp_path / "channel"))


def test_nodes_with_dask_alone_get_the_conda_environment_of_the_client(
    tmp_path: Path, venvs: Venvs, channel: Channel
) -> None:
    """Interpreter, libraries, variables and data come with it; pip's packages and loose modules lie on top.

    A change of pure Python is taken live, a change of a library by a restart; who joins later gets the same.
    """
    person = CondaPerson(tmp_path / "person", channel)
    person.write({"helpers.py": "NUMBER = 1\n"}, "job")
    base = venvs.base()
    before = base.listing()
    with running(tmp_path, base, tmp_path / "cache", workers=1) as cluster:
        first = person.run(
            cluster,
            LOOK + "print(json.dumps({'report': synced(), 'there': everywhere(look), 'again': synced(),"
            "'states': [node.state for node in pkgsync.status(client).nodes]}))",
        )
        assert first["report"]["ok"], first["report"]["text"]
        assert first["report"]["outcomes"] == ["restarted"]
        assert {"libfoo 2.1 h1_0", "twins 1.0 pyh0_0", "six 1.16.0"} <= set(first["report"]["installed"])
        assert any("(" in one and "→" in one for one in first["report"]["replaced"]), "pip's packages make room"
        (there,) = first["there"]
        prefix = there["prefix"]
        assert there["is its prefix"]
        assert prefix.startswith(str(tmp_path / "cache" / "layers"))
        assert there["foo"] == [prefix, "2.1"], "the program knows its prefix, and is on PATH"
        assert (there["FOO_HOME"], there["data"]) == (f"{prefix}/share/foo", "data of 2.1\n")
        assert (there["twin"], there["six"], there["mine"]) == ("1.0", "1.16.0", 1)
        assert there["library"] == 1, "the prefix was written into the library"
        assert first["again"]["outcomes"] == ["matched"]
        assert set(first["states"]) == {"matches"}

        person.write({"helpers_more.py": "NUMBER = 2\n"}, "job")
        person.update("greeter 1.1")
        live = person.run(
            cluster,
            LOOK + "print(json.dumps({'report': synced(), 'there': everywhere(look, 'helpers_more', True)}))",
        )
        assert live["report"]["ok"], live["report"]["text"]
        assert live["report"]["outcomes"] == ["live"], "nothing of what changes had been imported"
        assert live["there"][0]["pid"] == there["pid"]
        assert (live["there"][0]["greeter"], live["there"][0]["mine"]) == ("1.1", 2)

        shutil.rmtree(channel.root / "noarch")  # what the host has unpacked is not asked for again
        cluster.add_worker("--nworkers", "1")
        joined = person.run(
            cluster,
            LOOK + "client.wait_for_workers(2)\n"
            "states = [node.state for node in pkgsync.status(client).nodes]\n"
            "print(json.dumps({'there': everywhere(look, 'helpers', True), 'states': states}))",
        )
        assert all(one["prefix"].startswith(str(tmp_path / "cache" / "layers")) for one in joined["there"])
        assert {one["greeter"] for one in joined["there"]} == {"1.1"}
        assert set(joined["states"]) == {"matches"}
        released = person.run(
            cluster,
            "pkgsync.release(client)\nclient.wait_for_workers(2)\n"
            "look = 'import os, sys; answer = [sys.base_prefix, os.environ.get(\"FOO_HOME\")]'\n"
            "print(json.dumps(everywhere(call, look)))",
        )
        assert all(not one[0].startswith(str(tmp_path / "cache")) and one[1] is None for one in released)
    assert base.listing() == before, "the base environment was written"


@pytest.mark.slow
def test_nothing_but_the_client_is_needed(tmp_path: Path, venvs: Venvs, channel: Channel) -> None:
    """With ``transport="client"``, neither a channel nor an index is asked, and archives that are gone are rebuilt.

    The client's py-rattler and uv come along, as the node has neither.
    """
    person = CondaPerson(tmp_path / "person", channel, "py-rattler")
    person.write({"helpers.py": "NUMBER = 1\n"}, "job")
    shutil.rmtree(channel.root)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/"}
    with running(tmp_path, venvs.base(), tmp_path / "cache", workers=1, env=nowhere) as cluster:
        result = person.run(
            cluster,
            LOOK + "print(json.dumps({'report': synced(transport='client'), 'there': everywhere(look)}))",
        )
    assert result["report"]["ok"], result["report"]["text"]
    (there,) = result["there"]
    assert there["is its prefix"]
    assert (there["foo"], there["six"]) == ([there["prefix"], "2.1"], "1.16.0")


@pytest.mark.slow
def test_conda_nodes_keep_what_they_have(tmp_path: Path, channel: Channel) -> None:
    """On nodes with the same builds no prefix is built; a client of pip gets a layer in front of that of the node."""
    person = CondaPerson(tmp_path / "person", channel)
    person.write({"helpers.py": "NUMBER = 1\n"}, "job")
    node = Venv(make_prefix(channel.url, tmp_path / "node", SPECS))
    before = node.listing()
    activated = {"PATH": f"{node.root}/bin{os.pathsep}{os.environ['PATH']}", "FOO_HOME": f"{node.root}/share/foo"}
    with running(tmp_path, node, tmp_path / "cache", workers=1, env=activated) as cluster:
        result = person.run(
            cluster,
            LOOK.replace('prefix = os.environ["CONDA_PREFIX"]', "prefix = sys.base_prefix")
            + "print(json.dumps({'report': synced(), 'there': everywhere(look)}))",
        )
        assert result["report"]["ok"], result["report"]["text"]
        assert set(result["report"]["installed"]) >= {"six 1.16.0"}
        assert not any("libfoo" in one or "python" in one for one in result["report"]["installed"])
        assert not result["report"]["replaced"]
        assert result["there"][0]["prefix"] == str(node.root)
        pip = Person(tmp_path / "of-pip", "six==1.17.0", *CRITICAL_PINS, str(SOURCE))
        report = pip.run(
            cluster,
            LOOK + "print(json.dumps({'report': synced(on_conflict='replace'),"
            "'six': everywhere(call, 'import six; answer = six.__version__')}))",
        )
        assert report["six"] == ["1.17.0"]
        assert any(one.startswith("psutil ") for one in report["report"]["replaced"]), (
            "compiled against other libraries"
        )
        assert not any(one.startswith("click ") for one in report["report"]["replaced"]), "pure Python is the same"
        assert "tornado: another build than the client's" in report["report"]["text"], "Dask itself stays as it is"
    assert node.listing() == before, "the base environment was written"
