"""What a worker imports is the target's code, whatever its node puts in front of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from clusters import LIGHT, Person, environment_with, imported_version, on_workers, uv

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster, Venvs

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster


def test_what_a_node_puts_in_front_is_put_behind_or_told(
    run_cluster: Run, base_environment: Environment, venvs: Venvs, tmp_path: Path
) -> None:
    """A plain copy and an older copy with metadata lose, live and in every worker to come; what is loaded is told."""
    plain, older, early = (tmp_path / name for name in ("plain", "older", "early"))
    for directory in (plain, early):
        directory.mkdir()
        (directory / "tabulate.py").write_text("__version__ = 'of the node'\n")
    (plain / "operators.py").write_text("__version__ = 'of the node'\n")
    (early / "sitecustomize.py").write_text("import tabulate\n")  # before any worker can put anything right
    uv(["pip", "install", "--python", venvs.base().python, "--target", str(older), "--no-deps", "six==1.16.0"])
    wanted = environment_with(base_environment, LIGHT)
    path = os.pathsep.join(map(str, (plain, older)))

    def is_right() -> bool:
        found = [on_workers(client, imported_version, name) for name in ("tabulate", "six", "operators")]
        return [set(versions.values()) for versions in found] == [{"0.9.0"}, {"1.17.0"}, {"of the node"}]

    with run_cluster(workers=2, env={"PYTHONPATH": path}) as cluster, cluster.client(2) as client:
        report = pkgsync.sync(client, wanted, progress=False)
        assert [node.outcome for node in report.nodes[1:]] == ["live", "live"]
        assert client.run_on_scheduler(imported_version, "tabulate") == "0.9.0"
        assert is_right()
        client.restart(timeout=60)
        client.wait_for_workers(2, timeout=60)
        assert is_right()
        cluster.add_worker(name="late")
        cluster.add_worker(name="early", PYTHONPATH=str(early))
        client.wait_for_workers(3, timeout=60)
        cluster.wait_for(lambda: "failed" in {node.state for node in pkgsync.status(client).nodes}, "the failure")
        (failed,) = (node for node in pkgsync.status(client).nodes if node.state == "failed")
        assert str(early / "tabulate.py") in failed.detail
        assert len(client.nthreads()) == 3
        assert is_right()


UPLOADED = """
def look():
    import os, helpers
    return os.getpid(), helpers.V

def edit(text):
    with open("helpers.py", "w") as file:
        file.write(text)

edit("V = 'first'\\n")
client.upload_file("helpers.py")
held = client.submit(look, pure=False)  # a result that a restart would lose
first = held.result(timeout=60)
said = [[node.outcome for node in pkgsync.sync(client, modules=["helpers.py"], progress=False).nodes]]
said.append(everywhere(look) == [list(first)] or everywhere(look) == [first])
edit("V = 'second'\\n")
try:
    pkgsync.sync(client, modules=["helpers.py"], progress=False)
except pkgsync.SyncError as error:
    said.append([str(error), error.adopted])
said.append(everywhere(look)[0][1])
client.upload_file("helpers.py")
report = pkgsync.sync(client, modules=["helpers.py"], scheduler="refuse", progress=False)
said.append([[node.outcome, [text for text in node.skipped if "helpers" in text]] for node in report.nodes])
del held
client.restart(timeout=60)
client.wait_for_workers(1)
said.append(everywhere(look)[0][1])
print(json.dumps(said))
"""


@pytest.mark.slow
def test_an_uploaded_file_is_the_same_version_or_told(run_cluster: Run, tmp_path: Path) -> None:
    """The same bytes are the same version, and cost no restart; other bytes refuse the sync before anything changes."""
    person = Person(tmp_path / "person")
    with run_cluster(workers=1) as cluster:
        said: list[Any] = person.run(cluster, UPLOADED)
    outcomes, is_kept, (text, is_adopted), still, again, after_restart = said
    assert outcomes == ["live", "live"]
    assert is_kept
    assert not is_adopted
    assert "helpers.py" in text
    assert "files that clients have uploaded hide the target's" in text
    assert "client.upload_file" in text
    assert still == "first"
    assert again == [["live", []], ["live", []]], json.dumps(said)
    assert after_restart == "second"
