"""The peers: which hosts have which chunks of a blob, and from where a host gets its next chunk.

Each chunk leaves the scheduler about once: to the host that asks first. From then on hosts give it to each other.
Sets of chunks are numbers: the bit with the value ``1 << number`` is set for each chunk.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from dask_pkgsync.model.blobs import PEER_DEADLINE, chunk_count, chunk_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dask_pkgsync.model.blobs import Blob, ChunkRequest

OWN_AT_ONCE = 4
"""The most chunks of one blob that the scheduler sends at the same time, so that each of them soon arrives."""
PEER_AT_ONCE = 2
"""The most chunks that one host sends at the same time."""
GRANT = 2 * PEER_DEADLINE
"""Seconds after which a chunk on its way no longer counts: its host may be gone."""
STARVED = 3.0
"""Seconds after which a host that waits for its peers gets a chunk from the scheduler, if that has a free place."""
PATIENCE = 30.0
"""Seconds after which it gets one in any case."""
FAILURES = 3
"""Peers in a row that fail for one host, after which it gets everything from the scheduler: nodes may not reach each
other."""
AVOIDED = 20
"""Peers that have failed for one host at any time, after which the same holds."""
REPORTS = 3
"""Hosts for which a peer has failed, after which no further host is sent to it."""
SAMPLE = 16
"""The most peers that one decision looks at."""
HOLDERS = 64
"""The most hosts that are remembered for having all of a blob: those that finished last."""
IDLE = 600.0
"""Seconds after which a host that asks for nothing more counts as gone."""


@dataclass(frozen=True, slots=True)
class FromScheduler:
    """The scheduler sends this chunk itself."""

    chunk: int


@dataclass(frozen=True, slots=True)
class FromPeer:
    """The host fetches this chunk from another host."""

    chunk: int
    peer: str
    """Address of a node on that host."""


@dataclass(frozen=True, slots=True)
class Later:
    """All that the host misses is on its way to other hosts, or the hosts that have it are busy."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The host has all chunks."""

    sent: int
    """Bytes that the scheduler itself has sent to this host; the others came from peers."""


Step: TypeAlias = FromScheduler | FromPeer | Later | Complete


@dataclass(slots=True)
class Download:
    """A host that fetches a blob."""

    have: int = 0
    sources: dict[int, str] = field(default_factory=dict)
    """By number, the peer that sends each chunk on its way; empty for the scheduler."""
    touched: float = 0.0
    """When the host last asked."""
    waiting_since: float | None = None
    """When it was first told to ask later; None after it got a chunk."""
    sent: int = 0
    """Bytes that the scheduler has sent to it."""


class Spread:
    """How far one blob has spread."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.all = (1 << chunk_count(blob)) - 1
        self.downloads: dict[str, Download] = {}
        self.complete: dict[str, None] = {}
        """The hosts that have the whole blob, the newest last, at most `HOLDERS`."""
        self.seen = 0
        """The chunks that any host has."""
        self.sending: dict[int, float] = {}
        """By number, until when a chunk counts as on its way from the scheduler."""
        self.arrived: set[int] = set()
        """Those of them that have arrived, and that their host is still writing to its disk."""
        self.digests: dict[int, str] = {}
        """SHA-256 of the chunks that have been read from the scheduler's disk, by number."""

    def have(self, host: str) -> int:
        """Return the chunks of a host."""
        return self.all if host in self.complete else self.downloads[host].have

    @property
    def hosts(self) -> list[str]:
        """The hosts that have at least one chunk, or fetch the first one."""
        return [*self.downloads, *self.complete]

    def available(self, without: Iterable[str] = ()) -> int:
        """Return the chunks that hosts have, but for some hosts."""
        chunks = 0
        for host in set(self.hosts).difference(without):
            chunks |= self.have(host)
        return chunks

    def on_their_way(self, now: float) -> int:
        """Return the chunks that the scheduler is sending."""
        for chunk in [chunk for chunk, until in self.sending.items() if until <= now]:
            self.end_sending(chunk)
        return sum(1 << chunk for chunk in self.sending)

    def end_sending(self, chunk: int) -> None:
        """Note that a chunk is not on its way from the scheduler any longer."""
        self.sending.pop(chunk, None)
        self.arrived.discard(chunk)

    @property
    def has_place(self) -> bool:
        """Whether the scheduler may send one more chunk now."""
        return len(self.sending) - len(self.arrived) < OWN_AT_ONCE


@dataclass(slots=True)
class Trouble:
    """What a host has had with its peers."""

    avoids: set[str] = field(default_factory=set)
    """The peers that have failed for it."""
    in_a_row: int = 0


class Peers:
    """Decides, for all blobs of a cluster, from where each host gets its next chunk. It does no I/O.

    Parameters
    ----------
    choice : random.Random, optional
        Chooses among equals.
    """

    def __init__(self, choice: random.Random | None = None) -> None:
        self.choice = choice or random.Random()  # noqa: S311  # nothing secret: which of equal peers
        self.spreads: dict[str, Spread] = {}
        """By the digest of the blob."""
        self.uploads: dict[str, dict[tuple[str, str, int], float]] = {}
        """By peer, the chunks that it is sending (blob, receiving host and number), and until when that counts."""
        self.trouble: dict[str, Trouble] = {}
        """By host; only those that have had any."""
        self.reports: dict[str, int] = {}
        """By peer, the number of hosts for which it has failed."""

    def spread(self, blob: Blob) -> Spread:
        """Return how far a blob has spread."""
        return self.spreads.setdefault(blob.digest, Spread(blob))

    def forget(self, digest: str) -> None:
        """Forget who has a blob."""
        self.spreads.pop(digest, None)

    def forgive(self) -> None:
        """Forget which peers have failed, as a new sync begins."""
        self.trouble, self.reports = {}, {}

    def note(self, request: ChunkRequest, now: float) -> bool:
        """Note what a host has, and what it does not fetch any longer; return whether that may help other hosts."""
        spread, node = self.spread(request.blob), request.node
        for peer in request.failed:
            self._note_failure(node, peer)
        if node not in spread.downloads:
            spread.downloads = {host: one for host, one in spread.downloads.items() if one.touched > now - IDLE}
            spread.downloads[node] = Download()
            if node in spread.complete:  # it had the blob, and has lost it
                del spread.complete[node]
                spread.seen = spread.available()
        download = spread.downloads[node]
        ended = [chunk for chunk in download.sources if not request.pending >> chunk & 1]
        for chunk in ended:
            self._end(spread, node, chunk, download.sources.pop(chunk), arrived=bool(request.have >> chunk & 1))
        # A host asks again when the scheduler's last answer has arrived, although it may still be writing it.
        arrived = {chunk for chunk, peer in download.sources.items() if not peer and chunk in spread.sending}
        news = bool(ended) or request.have & ~download.have != 0 or not arrived <= spread.arrived
        spread.arrived |= arrived
        download.have, download.touched = request.have, now
        spread.seen |= request.have
        return news

    def _end(self, spread: Spread, node: str, chunk: int, source: str, *, arrived: bool) -> None:
        """Note that a chunk is not on its way to a host any longer."""
        if not source:
            spread.end_sending(chunk)
            return
        self.uploads.get(source, {}).pop((spread.blob.digest, node, chunk), None)
        if arrived and node in self.trouble:
            self.trouble[node].in_a_row = 0

    def _note_failure(self, node: str, peer: str) -> None:
        trouble = self.trouble.setdefault(node, Trouble())
        is_known = any(peer in spread.downloads or peer in spread.complete for spread in self.spreads.values())
        if is_known and peer not in trouble.avoids:
            trouble.avoids.add(peer)
            trouble.in_a_row += 1
            self.reports[peer] = self.reports.get(peer, 0) + 1

    def _unfit(self, node: str) -> set[str]:
        """Return the peers that a host is not sent to, as they have failed for it, or for several others."""
        shunned = {peer for peer, hosts in self.reports.items() if hosts >= REPORTS}
        return shunned | self.trouble[node].avoids if node in self.trouble else shunned

    def _is_alone(self, node: str) -> bool:
        """Whether a host gets everything from the scheduler."""
        trouble = self.trouble.get(node)
        return trouble is not None and (trouble.in_a_row >= FAILURES or len(trouble.avoids) >= AVOIDED)

    def choose(self, request: ChunkRequest, now: float) -> Step:
        """Return from where a host gets its next chunk, after `note` has noted the same request."""
        spread, node = self.spread(request.blob), request.node
        download, missing = spread.downloads[node], request.missing
        if request.have == spread.all:
            return self._finished(spread, node)
        if not missing:
            return Later()
        if self._is_alone(node):
            return self._own(spread, download, missing, now)
        unfit = self._unfit(node)
        if new := missing & ~(spread.available(unfit) if unfit else spread.seen):
            sending = spread.on_their_way(now)
            if spread.has_place and new & ~sending:
                return self._own(spread, download, new & ~sending, now)
        if (step := self._from_peer(spread, node, missing, unfit, now)) is not None:
            download.sources[step.chunk], download.waiting_since = step.peer, None
            return step
        return self._later(spread, download, missing, now)

    def _later(self, spread: Spread, download: Download, missing: int, now: float) -> Step:
        """Let a host wait, but not for too long."""
        download.waiting_since = now if download.waiting_since is None else download.waiting_since
        waited, sending = now - download.waiting_since, spread.on_their_way(now)
        if waited >= PATIENCE or (waited >= STARVED and spread.has_place):
            return self._own(spread, download, missing & ~sending or missing, now)
        return Later()

    def _finished(self, spread: Spread, node: str) -> Complete:
        download = spread.downloads.pop(node)
        spread.complete[node] = None
        while len(spread.complete) > HOLDERS:
            del spread.complete[next(iter(spread.complete))]
        return Complete(download.sent)

    def _own(self, spread: Spread, download: Download, chunks: int, now: float) -> FromScheduler:
        """Return the first of some chunks, from the scheduler."""
        chunk = (chunks & -chunks).bit_length() - 1
        download.sources[chunk], download.waiting_since = "", None
        download.sent += chunk_size(spread.blob, chunk)
        spread.sending[chunk] = now + GRANT
        spread.arrived.discard(chunk)
        return FromScheduler(chunk)

    def _from_peer(self, spread: Spread, node: str, missing: int, unfit: set[str], now: float) -> FromPeer | None:
        """Return one of the missing chunks, from a peer that seldom failed and has little to do, or None."""
        hosts = spread.hosts
        found: tuple[int, int, str] | None = None
        for peer in self.choice.sample(hosts, min(SAMPLE, len(hosts))):
            if peer == node or peer in unfit:
                continue
            busy = self._busy(peer, now)
            if spread.have(peer) & missing and busy < PEER_AT_ONCE:
                candidate = self.reports.get(peer, 0), busy, peer
                found = candidate if found is None else min(found, candidate, key=itemgetter(0, 1))
        if found is None:
            return None
        *_, peer = found
        usable = spread.have(peer) & missing
        chunk = self.choice.choice([number for number in range(usable.bit_length()) if usable >> number & 1])
        self.uploads.setdefault(peer, {})[spread.blob.digest, node, chunk] = now + GRANT
        return FromPeer(chunk, peer)

    def _busy(self, peer: str, now: float) -> int:
        """Return the number of chunks that a peer is sending."""
        if not (sending := self.uploads.get(peer)):
            return 0
        for chunk in [chunk for chunk, until in sending.items() if until <= now]:
            del sending[chunk]
        return len(sending)
