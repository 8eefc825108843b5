"""A second worker of a nanny starts beside the present one only where there is memory for both."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from dask_pkgsync.node import successor
from dask_pkgsync.process.memory import available_memory, used_memory

if TYPE_CHECKING:
    from pathlib import Path


class PlainNanny:
    """A nanny in whose way nothing stands but memory, as `why_not_two_workers` sees it."""

    pid = os.getpid()


def group(directory: Path, version: int, limit: str) -> None:
    """Write the files of a control group."""
    directory.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, text in zip(names, (limit, "700000000\n"), strict=True):
        (directory / name).write_text(text)
    cached = "inactive_file" if version == 2 else "total_inactive_file"
    (directory / "memory.stat").write_text(f"anon 500000000\n{cached} 200000000\n")


@pytest.mark.parametrize(("version", "line", "top"), [(2, "0::", "."), (1, "5:cpuset,memory:", "memory")])
def test_a_container_has_what_its_limit_leaves(tmp_path: Path, version: int, line: str, top: str) -> None:
    """What a container or job may still take is the limit less the usage, without files that are only cached."""
    membership = tmp_path / "membership"
    membership.write_text(f"7:pids:/elsewhere\n{line}/job/step\n")
    everything = available_memory(tmp_path, membership)
    group(tmp_path / top / "elsewhere", version, "0\n")
    assert available_memory(tmp_path, membership) > 500_000_000
    group(tmp_path / top / "job", version, "1000000000\n")
    group(tmp_path / top / "job" / "step", version, "max\n")
    assert available_memory(tmp_path, membership) == 500_000_000
    group(tmp_path / top / "job" / "step", version, "0\n")
    assert available_memory(tmp_path, membership) == 0
    assert everything > 500_000_000


def test_without_a_container_the_machine_decides(tmp_path: Path) -> None:
    """Where the system has no control groups, what the machine has is available."""
    assert available_memory(tmp_path, tmp_path / "nothing") > 500_000_000


def test_a_process_that_has_ended_holds_no_memory() -> None:
    """A process tells what it holds; one that is not there holds nothing."""
    assert used_memory(os.getpid()) > 1_000_000
    assert used_memory(2**22 + 1) == 0


def test_a_second_worker_needs_memory_beside_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much must be available as the present worker holds, and never less than what Dask itself needs."""
    nanny: Any = PlainNanny()
    monkeypatch.setattr(successor, "why_not_two_workers", lambda *_: "")
    used = max(used_memory(nanny.pid), successor.NEEDED)
    for available, reason in ((used * 2, ""), (successor.NEEDED - 1, "two workers at once need")):
        monkeypatch.setattr(successor, "available_memory", lambda available=available: available)
        found = asyncio.run(successor.why_none(nanny, "pkgsync"))
        assert found == reason or (reason and reason in found)
