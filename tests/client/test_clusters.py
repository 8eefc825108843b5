"""What names a cluster: an address, a scheduler file, a cluster object."""

from __future__ import annotations

import json

import pytest

import dask_pkgsync as pkgsync
from dask_pkgsync import PkgsyncError
from dask_pkgsync.cli.environments import names_cluster
from dask_pkgsync.client.clusters import Place, place_of


class ClusterObject:
    """Has what cluster objects have: an address, and settings for TLS."""

    def __init__(self, address: object, security: object = None) -> None:
        self.scheduler_address, self.security = address, security


def test_every_name_of_a_cluster_leads_to_its_address(tmp_path):
    """An address, a scheduler file as text or path, and a cluster object name the same scheduler."""
    file, address = tmp_path / "scheduler.json", "tcp://10.0.0.1:8786"
    file.write_text(json.dumps({"type": "Scheduler", "address": address, "workers": {}}))
    for name in (address, str(file), file, ClusterObject(address), Place(address)):
        assert place_of(name) == Place(address)
    assert place_of(ClusterObject(address, "tls")).security == "tls"
    assert place_of(address, "tls").security == "tls"


def test_what_names_no_cluster_is_refused(tmp_path):
    """The error says what was expected, and what to do."""
    for wrong in (None, 5, object()):
        with pytest.raises(TypeError, match=r"expected a distributed\.Client, an address"):
            pkgsync.compare(wrong)
    with pytest.raises(PkgsyncError, match=r"no scheduler file that can be read.*--scheduler-file"):
        place_of(tmp_path / "none.json")
    for text in ("{}", "[", '{"address": 5}'):
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(PkgsyncError, match="no scheduler file"):
            place_of(str(tmp_path / "wrong.json"))
    with pytest.raises(PkgsyncError, match="has no scheduler"):
        place_of(ClusterObject("<Not Connected>"))
    with pytest.raises(TypeError, match="two environments"):
        pkgsync.compare(pkgsync.scan(modules=False))


def test_a_scheduler_that_does_not_answer_is_named():
    """Where nothing listens, and where the address is none, the error names the address."""
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        for address in ("tcp://127.0.0.1:9", "nonsense://x:1"):
            with pytest.raises(PkgsyncError, match="cannot connect to"):
                pkgsync.compare(address)


def test_commands_tell_clusters_from_files(tmp_path):
    """An address and a scheduler file name a cluster; environments and what does not exist do not."""
    (tmp_path / "s.json").write_text('{"address": "tcp://10.0.0.1:1", "workers": {}}')
    (tmp_path / "e.json").write_text(pkgsync.scan(modules=False).to_json())
    assert names_cluster("tls://10.0.0.1:8786")
    assert names_cluster(str(tmp_path / "s.json"))
    assert not any(map(names_cluster, (str(tmp_path / "e.json"), str(tmp_path / "none.json"), ".", "-")))
