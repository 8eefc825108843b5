"""Who gives which chunk to whom: each leaves the scheduler about once, and no host waits for one that fails."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dask_pkgsync.model.blobs import CHUNK, Blob, BlobRequest, ChunkRequest, chunk_count
from dask_pkgsync.scheduler.blobs.peers import (
    AVOIDED,
    FAILURES,
    GRANT,
    HOLDERS,
    IDLE,
    OWN_AT_ONCE,
    PATIENCE,
    PEER_AT_ONCE,
    REPORTS,
    STARVED,
    Complete,
    FromPeer,
    FromScheduler,
    Later,
    Peers,
    Step,
)

BLOB = Blob(BlobRequest("large", "1.0"), "large-1.0-py3-none-any.whl", "a" * 64, 5 * CHUNK + 1)
ALL = (1 << chunk_count(BLOB)) - 1


class Cluster:
    """Hosts that do what they are told, each request at the time ``now``."""

    def __init__(self, seed: int = 0) -> None:
        self.peers = Peers(random.Random(seed))
        self.now = 0.0
        self.have: dict[str, int] = {}
        self.pending: dict[str, dict[int, str]] = {}

    def ask(self, host: str, *failed: str) -> Step:
        """Let a host ask for its next chunk."""
        pending = self.pending.setdefault(host, {})
        bits = sum(1 << chunk for chunk in pending)
        request = ChunkRequest(BLOB, host, self.have.setdefault(host, 0), bits, failed, may_wait=not pending)
        self.peers.note(request, self.now)
        step = self.peers.choose(request, self.now)
        if isinstance(step, FromScheduler | FromPeer):
            assert not (self.have[host] | bits) >> step.chunk & 1, "a chunk that it has, or fetches"
            pending[step.chunk] = step.peer if isinstance(step, FromPeer) else ""
        return step

    def end(self, host: str) -> None:
        """Let everything arrive that is on its way to a host."""
        for chunk in self.pending.pop(host, {}):
            self.have[host] |= 1 << chunk

    def lose(self, host: str) -> None:
        """Let everything fail that is on its way to a host."""
        self.pending.pop(host, None)

    def holds_all(self, host: str) -> Step:
        """Let a host say that it has the blob."""
        self.have[host] = ALL
        return self.ask(host)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("hosts", [1, 2, 3, 8, 50])
def test_each_chunk_leaves_the_scheduler_once(hosts: int, seed: int) -> None:
    """However many hosts there are, and in whatever order they ask and receive, while none fails."""
    cluster, order = Cluster(seed), random.Random(seed)
    left = {f"host{number}" for number in range(hosts)}
    sent = rounds = 0
    while left:
        rounds += 1
        for host in order.sample(sorted(left), len(left)):
            if len(cluster.pending.get(host, ())) >= 3 or order.random() < 0.5:
                cluster.end(host)
            step = cluster.ask(host)
            if isinstance(step, Complete):
                sent += step.sent
                left.discard(host)
    assert sent == BLOB.size
    assert rounds < 100


def test_a_host_sends_few_chunks_at_once_and_the_scheduler_too() -> None:
    """Whoever finds all of them busy is told to ask later, and gets a chunk when one has a free place."""
    cluster = Cluster()
    first = [cluster.ask(f"first{number}") for number in range(OWN_AT_ONCE)]
    assert first == [FromScheduler(chunk) for chunk in range(OWN_AT_ONCE)]
    assert cluster.ask("late") == Later()
    cluster.end("first0")
    assert cluster.ask("first0") == FromScheduler(OWN_AT_ONCE)
    for number in range(PEER_AT_ONCE):
        assert cluster.ask(f"second{number}") == FromPeer(0, "first0")
    assert cluster.ask("late") == Later()
    cluster.end("second0")
    cluster.ask("second0")
    assert isinstance(cluster.ask("late"), FromPeer)


def test_a_chunk_that_is_being_written_takes_no_place_of_those_that_are_sent() -> None:
    """A host that asks again has received what it was sent: the next one need not wait for its disk."""
    cluster = Cluster()
    for number in range(OWN_AT_ONCE):
        cluster.ask(f"first{number}")
    assert cluster.ask("late") == Later()
    assert cluster.ask("first0") == FromScheduler(OWN_AT_ONCE)
    assert cluster.ask("first1") == FromScheduler(OWN_AT_ONCE + 1)
    assert cluster.ask("late") == Later()  # it is not sent anew what is being written


def test_a_peer_that_fails_is_passed_by() -> None:
    """It is not named to that host again; what only it has comes from the scheduler, at once."""
    cluster = Cluster()
    cluster.holds_all("bad")
    step = cluster.ask("host")
    assert isinstance(step, FromPeer)
    cluster.lose("host")
    cluster.pending["host"] = {}
    assert isinstance(cluster.ask("host", "bad"), FromScheduler)
    cluster.holds_all("good")
    for _ in range(3):
        step = cluster.ask("host")
        assert isinstance(step, FromPeer)
        assert step.peer == "good"
        cluster.end("host")


def test_a_host_that_reaches_no_peer_gets_everything_from_the_scheduler() -> None:
    """After a few failures in a row it is sent to no further one, until a new sync begins; a success ends the row."""
    cluster = Cluster()
    for number in range(FAILURES + 2):
        cluster.holds_all(f"peer{number}")

    def fail() -> None:
        step = cluster.ask("host")
        assert isinstance(step, FromPeer)
        cluster.lose("host")
        cluster.ask("host", step.peer)
        cluster.lose("host")

    for _ in range(FAILURES - 1):
        fail()
    assert isinstance(cluster.ask("host"), FromPeer)
    cluster.end("host")
    cluster.ask("host")
    cluster.lose("host")
    assert cluster.peers.trouble["host"].in_a_row == 0
    for number in range(FAILURES):
        cluster.holds_all(f"more{number}")
    cluster.peers.trouble["host"].in_a_row = FAILURES - 1
    fail()
    for _ in range(3):
        assert isinstance(cluster.ask("host"), FromScheduler)
    cluster.peers.forgive()
    cluster.lose("host")
    assert isinstance(cluster.ask("host"), FromPeer)


def test_what_is_remembered_of_failures_is_bounded() -> None:
    """A host names at most so many peers, and only those that there are count."""
    cluster = Cluster()
    cluster.ask("host", *(f"stranger{number}" for number in range(100)))
    assert not cluster.peers.trouble["host"].avoids
    for number in range(AVOIDED):
        cluster.holds_all(f"peer{number}")
        cluster.ask("host", f"peer{number}")
        cluster.peers.trouble["host"].in_a_row = 0
        cluster.lose("host")
    assert isinstance(cluster.ask("host"), FromScheduler)


def test_a_peer_that_fails_for_several_is_named_to_nobody_else() -> None:
    """Whoever comes later loses no time with it."""
    cluster = Cluster()
    cluster.holds_all("bad")
    for number in range(REPORTS):
        assert isinstance(cluster.ask(f"host{number}"), FromPeer)
        cluster.lose(f"host{number}")
        cluster.ask(f"host{number}", "bad")
    step = cluster.ask("next")
    assert not isinstance(step, FromPeer) or step.peer != "bad"


def test_who_waits_for_a_host_that_is_gone_waits_for_seconds() -> None:
    """A chunk on its way to it comes from the scheduler anew, when there is a place; in any case after a while."""
    cluster = Cluster()
    for number in range(OWN_AT_ONCE):
        cluster.ask(f"gone{number}")
    assert cluster.ask("host") == Later()
    cluster.now += STARVED
    assert cluster.ask("host") == Later()  # the scheduler is still busy
    cluster.now += GRANT
    assert isinstance(cluster.ask("host"), FromScheduler)
    cluster.now += GRANT
    for number in range(OWN_AT_ONCE):
        cluster.ask(f"more{number}")
    assert isinstance(cluster.ask("late"), Later)
    cluster.now += PATIENCE
    for number in range(OWN_AT_ONCE):
        cluster.ask(f"others{number}")
    assert isinstance(cluster.ask("late"), FromScheduler)


def test_uploads_to_a_host_that_is_gone_do_not_keep_a_peer_busy() -> None:
    """They count for a time only."""
    cluster = Cluster()
    cluster.holds_all("peer")
    for number in range(PEER_AT_ONCE):
        assert isinstance(cluster.ask(f"gone{number}"), FromPeer)
    assert cluster.ask("host") == Later()
    cluster.now += GRANT
    assert isinstance(cluster.ask("host"), FromPeer)


def test_a_host_that_lost_its_blob_begins_anew() -> None:
    """As its cache was emptied: nobody is sent to it any more for what it does not have."""
    cluster = Cluster()
    cluster.holds_all("host")
    cluster.have["host"] = 0
    assert cluster.ask("host") == FromScheduler(0)
    assert cluster.ask("other") == FromScheduler(1)


def test_memory_is_bounded_and_ends_with_the_blob() -> None:
    """So many hosts are remembered for a blob, and who asks for nothing more is forgotten."""
    cluster = Cluster()
    for number in range(HOLDERS + 50):
        assert cluster.holds_all(f"host{number}") == Complete(0)
    spread = cluster.peers.spread(BLOB)
    assert list(spread.complete) == [f"host{number}" for number in range(50, HOLDERS + 50)]
    assert not spread.downloads
    cluster.have["gone"] = 1
    cluster.ask("gone")
    cluster.now += IDLE
    cluster.ask("other")
    assert list(spread.downloads) == ["other"]
    cluster.peers.forget(BLOB.digest)
    assert not cluster.peers.spreads


def test_blobs_do_not_mix() -> None:
    """Who has one blob is asked for no other."""
    cluster = Cluster()
    cluster.holds_all("host")
    other = replace(BLOB, digest="b" * 64)
    request = ChunkRequest(other, "second", 0)
    cluster.peers.note(request, 0)
    assert cluster.peers.choose(request, 0) == FromScheduler(0)
