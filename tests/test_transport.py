"""Clusters that reach no index get everything from the client, once per host, and nothing that is damaged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from clusters import Person, running
from uv import find_uv_bin

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Venvs

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
    ("transport", "ignored", "on_path"), [("client", [], ""), ("client", ["uv"], ""), ("auto", ["uv"], find_uv_bin())]
)
def test_a_cluster_without_an_index_gets_everything_from_the_client(
    transport: str, ignored: list[str], on_path: str, person: Person, tmp_path: Path, venvs: Venvs
) -> None:
    """numpy, pandas, pyarrow and all the rest arrive file by file as they are: with the client's uv, pip, or uv."""
    person.install("numpy==2.2.6", *([] if ignored and not on_path else ["pandas==2.2.3", "pyarrow==18.1.0"]))
    if ignored:
        person.uninstall(*ignored)
    env = {**NO_INDEX, "PATH": os.pathsep.join([*filter(None, [os.path.dirname(on_path)]), "/usr/bin", "/bin"])}
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cluster" / "cache", workers=2, env=env) as cluster:
        found = person.run(
            cluster,
            FILES
            + f"""
results = {{}}
report = pkgsync.sync(client, progress=False, transport={transport!r})
names = [name for name in pkgsync.scan(modules=False).distributions if name not in ("dask-pkgsync", "pip", "setuptools")]
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
    log = cluster.cache / "tools" / "uv"
    assert log.exists() is (not ignored)
    assert found["numpy"] == ["2.2.6"] * 2
    uploaded: list[Any] = found["uploaded"]
    assert len(uploaded) == len(set(uploaded))  # each once, however many nodes ask
    assert not found["served"]  # the scheduler shares its host's disk
    assert any(name.startswith("numpy-2.2.6") for name in uploaded)
