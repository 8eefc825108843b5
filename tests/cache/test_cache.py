"""Programs that hang leave nothing behind, and the cache is shared without anybody getting hurt."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from clusters import SOURCE

from dask_pkgsync import LayerError
from dask_pkgsync.cache import directory as caches
from dask_pkgsync.cache.collection import collect
from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.model.child_environment import child_environment

if TYPE_CHECKING:
    from pathlib import Path

HANGS_WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
print("said before", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""


def test_what_a_program_says_is_returned(tmp_path: Path) -> None:
    """Status, both outputs and the surroundings are the program's own."""
    code = "import os, sys; print(os.getcwd()); print(os.environ['X'], file=sys.stderr); sys.exit(3)"
    finished = run([sys.executable, "-c", code], timeout=120, env={**os.environ, "X": "ü"}, cwd=tmp_path)
    assert (finished.returncode, finished.stdout.strip()) == (3, str(tmp_path))
    assert finished.stderr.strip() == "ü"
    assert finished.seconds > 0


def until_written(note: Path) -> None:
    """Wait until the program that hangs has its child, and has said so."""
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_past_the_deadline_the_whole_group_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that hangs is killed with its children, and what it said is kept."""
    note = tmp_path / "pid"

    class TimedFromWhenItIsUp(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            until_written(note)
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", TimedFromWhenItIsUp)
    with pytest.raises(DeadlineExceededError, match=r"did not end within 1\.5 s and was killed") as caught:
        run([sys.executable, "-c", HANGS_WITH_CHILD, str(note)], timeout=1.5, env=child_environment(os.environ))
    assert "said before" in caught.value.stderr
    wait_gone(int(note.read_text()))


def wait_gone(pid: int) -> None:
    """Wait until a process is gone, or a zombie that nobody has collected."""
    deadline = time.monotonic() + 60
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_child_that_lives_on_holds_up_nobody() -> None:
    """A program that ends is finished, also if a child of its keeps the output open."""
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    finished = run([sys.executable, "-c", code], timeout=120, env=child_environment(os.environ))
    child = psutil.Process(int(finished.stdout))
    assert child.status() != psutil.STATUS_ZOMBIE
    child.kill()
    wait_gone(child.pid)


def test_an_interrupt_ends_the_group_too(tmp_path: Path) -> None:
    """Ctrl-C while a program runs leaves none of its processes behind."""
    note = tmp_path / "pid"

    def interrupt() -> None:
        until_written(note)
        os.kill(os.getpid(), signal.SIGINT)

    # (a shell lets what it starts in the background ignore Ctrl-C, and Python keeps it so)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    person = threading.Thread(target=interrupt)
    person.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run([sys.executable, "-c", HANGS_WITH_CHILD, str(note)], timeout=120, env=child_environment(os.environ))
    finally:
        signal.signal(signal.SIGINT, before)
    person.join()
    wait_gone(int(note.read_text()))


def finished_layer(cache: Cache, digest: str, size: int = 10, age: float = 0) -> Path:
    """Write a layer that was last used so many seconds ago."""
    layer = cache.layers / digest
    layer.mkdir()
    marker = layer / MARKER
    marker.write_text(json.dumps({"bytes": size}))
    os.utime(marker, (time.time() - age, time.time() - age))
    return layer


def test_old_layers_are_collected_and_leased_ones_are_not(tmp_path: Path) -> None:
    """A layer that nobody used for long is removed, unless a living process holds a lease."""
    cache = open_cache(str(tmp_path / "cache"))
    for digest, age in (("old", 1000), ("new", 0), ("held", 1000), ("dead", 1000), ("elsewhere", 1000)):
        finished_layer(cache, digest, age=age)
    cache.lease("held")
    lease(cache, "dead", host=caches.this_host(), pid=os.getpid(), created=1.0)
    lease(cache, "elsewhere", host="another", pid=1, created=1.0)
    assert set(collect(cache, max_age=500, max_bytes=10**9)) == {"old", "dead"}
    assert {layer.name for layer in cache.layers.iterdir()} == {"new", "held", "elsewhere"}
    assert not list(cache.building.iterdir())


def lease(cache: Cache, digest: str, **holder: object) -> None:
    """Write somebody's lease."""
    directory = cache.leases / digest
    directory.mkdir()
    (directory / "x.json").write_text(json.dumps(holder))


def test_above_the_size_the_longest_unused_go_first(tmp_path: Path) -> None:
    """Layers are removed, the longest unused first, until the rest is small enough."""
    cache = open_cache(str(tmp_path / "cache"))
    for number in range(4):
        finished_layer(cache, f"layer{number}", size=100, age=100 - number)
    assert collect(cache, max_age=10_000, max_bytes=250) == ("layer0", "layer1")


def test_a_layer_in_the_making_is_not_collected(tmp_path: Path) -> None:
    """Whoever holds the lock of a layer keeps it from being removed."""
    cache = open_cache(str(tmp_path / "cache"))
    finished_layer(cache, "old", age=1000)
    with cache.lock("old", 5):
        assert collect(cache, max_age=1, max_bytes=0) == ()
    assert collect(cache, max_age=1, max_bytes=0) == ("old",)


def test_what_the_dead_were_building_is_swept(tmp_path: Path) -> None:
    """Directories of processes that died half-way are removed; those of the living stay."""
    cache = open_cache(str(tmp_path / "cache"))
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    here = caches.this_host()
    kept = {f"layer-{os.getpid()}-{here}-bbbb", f"layer-{child.pid}-another-host-cccc", "odd"}
    for name in (*kept, f"layer-{child.pid}-{here}-aaaa", "layer-1-another-host-dddd"):
        (cache.building / name).mkdir()
    os.utime(cache.building / "layer-1-another-host-dddd", (1, 1))
    collect(cache, max_age=1000, max_bytes=10**9)
    assert {left.name for left in cache.building.iterdir()} == kept


LEASE = """
import sys
from dask_pkgsync.cache import directory as cache
cache.this_host = lambda: "another"
cache.open_cache(sys.argv[1]).lease("held")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lease_of_another_host_holds_for_as_long_as_its_process_lives(tmp_path: Path) -> None:
    """However old it is: what several hosts share is removed only when none of them uses it any more."""
    cache = open_cache(str(tmp_path / "cache"))
    finished_layer(cache, "held", age=1000)
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        [sys.executable, "-c", LEASE, str(cache.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        (held,) = (cache.leases / "held").iterdir()
        os.utime(held, (1, 1))
        assert collect(cache, max_age=500, max_bytes=0) == ()
    assert collect(cache, max_age=500, max_bytes=0) == ("held",)


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some that are shared by hosts are."""

    def unsupported(file: object, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    cache = open_cache(str(tmp_path / "cache"))
    monkeypatch.setattr(fcntl, "flock", unsupported)
    cache.lease("any")  # whose age has to do
    with pytest.raises(LayerError, match=r"x\.lock cannot be locked: Operation not supported"), cache.lock("x", 5):
        pass


HOLD = """
import sys
from dask_pkgsync.cache.directory import open_cache
with open_cache(sys.argv[1]).lock("x", 5):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_somebody_else_holds_times_out(tmp_path: Path) -> None:
    """Waiting for another process ends with an error that says how long and for what."""
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "cache")]
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with (
            pytest.raises(LayerError, match=r"for more than 0\.2 s"),
            open_cache(str(tmp_path / "cache")).lock("x", 0.2),
        ):
            pass
        process.communicate()
    with open_cache(str(tmp_path / "cache")).lock("x", 1):
        pass


def test_a_configured_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The operator's choice is not passed over in silence: the error names it, and how to choose."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LayerError, match="DASK_PKGSYNC__CACHE_DIRECTORY") as caught:
        open_cache(str(tmp_path / "file"))
    assert str(tmp_path / "file") in str(caught.value)


def test_without_a_choice_another_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the user's cache directory is taken, and where that cannot be written a private temporary one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert open_cache().root == tmp_path / "cache" / "dask-pkgsync"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(caches.tempfile, "tempdir", str(tmp_path))
    found = open_cache().root
    assert found == tmp_path / f"dask-pkgsync-{os.getuid()}"
    assert found.stat().st_mode & 0o777 == 0o700


def test_what_builds_gets_an_empty_directory_whose_path_returns(tmp_path: Path) -> None:
    """Two that build at once have two; what a killed one left behind is gone, and nothing is left after a failure."""
    cache = open_cache(str(tmp_path / "cache"))
    with cache.slot() as one, cache.slot() as two:
        assert one != two
        (one / "left").mkdir()
        (one / "left").chmod(0o500)
    assert not list(cache.building.iterdir())
    one.mkdir()
    (one / "left").write_text("by a process that was killed")
    with cache.slot() as again:
        assert again == one
        assert not list(again.iterdir())
    with pytest.raises(LayerError, match="of the build"), cache.slot():
        raise LayerError("install", "of the build")
    assert not list(cache.building.iterdir())


def test_any_number_may_build_at_once(tmp_path: Path) -> None:
    """Those for whom no path returns have a new one."""
    cache = open_cache(str(tmp_path / "cache"))
    with contextlib.ExitStack() as held:
        places = {held.enter_context(cache.slot()) for _ in range(caches.SLOTS + 2)}
        assert len(places) == caches.SLOTS + 2
    assert not list(cache.building.iterdir())


IN_A_SLOT = """
import sys
from dask_pkgsync.cache.directory import open_cache
with open_cache(sys.argv[1]).slot() as place:
    print(place, flush=True)
    sys.stdin.readline()
"""


def test_the_directory_of_another_process_is_not_taken(tmp_path: Path) -> None:
    """Until that process has ended, however it ends."""
    cache = open_cache(str(tmp_path / "cache"))
    argv = [sys.executable, "-c", IN_A_SLOT, str(cache.root)]
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        theirs = process.stdout.readline().strip()
        with cache.slot() as mine:
            assert str(mine) != theirs
        process.kill()
    with cache.slot() as mine:
        assert str(mine) == theirs
