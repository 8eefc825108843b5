"""A cache directory is one that nobody else can have filled, and in which programs run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from clusters import SOURCE, surroundings

from dask_pkgsync import LayerError
from dask_pkgsync.cache import directory as caches
from dask_pkgsync.cache import place
from dask_pkgsync.cache.directory import open_cache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that makes a file, directory or link that of another user."""
    given: list[Path] = []

    def give(path: Path) -> None:
        if os.getuid() == 0:
            os.lchown(path, 65534, 65534)
        else:  # only root can give away
            given.append(path)
            monkeypatch.setattr(place, "_is_ours", lambda path: path not in given)

    return give


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a temporary directory for all users, which is that of this process."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(caches.tempfile, "tempdir", str(shared))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    return shared


@pytest.mark.parametrize("configured", [False, True], ids=["by default", "configured"])
@pytest.mark.parametrize("kind", ["link", "directory"])
def test_what_another_user_may_have_made_is_refused_by_name(
    kind: str, configured: bool, shared: Path, tmp_path: Path, give_away: Callable[[Path], None]
) -> None:
    """A symbolic link is not followed, and a directory not used, in a directory where others may make them."""
    (tmp_path / "mine").mkdir()
    give_away(shared)
    directory = shared / f"dask-pkgsync-{os.getuid()}"
    directory.symlink_to(tmp_path / "mine") if kind == "link" else directory.mkdir()
    give_away(directory)
    with pytest.raises(
        LayerError, match=rf"{directory} (is a symbolic link of|is a directory of|belongs to) another user"
    ):
        open_cache(str(directory) if configured else None)
    assert not list((tmp_path / "mine").iterdir())
    assert not list(directory.iterdir())


def test_a_directory_that_others_may_write_to_is_refused_by_name(shared: Path) -> None:
    """Also one of our own, in a directory where others may look for it."""
    directory = shared / "cache"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(LayerError, match=f"other users may write to {directory}") as caught:
        open_cache(str(directory))
    assert "cache-directory" in caught.value.advice


def test_instead_of_a_cache_of_another_user_a_private_one_is_used(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user's cache directory holds under our name is not used if others may write to it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    open_cache()
    (tmp_path / "home" / "dask-pkgsync").chmod(0o777)
    cache = open_cache()
    assert cache.root == shared / f"dask-pkgsync-{os.getuid()}"
    assert cache.root.stat().st_mode & 0o777 == 0o700
    cache.root.chmod(0o777)
    with pytest.raises(LayerError) as caught:
        open_cache()
    assert str(tmp_path / "home") in caught.value.problem  # both are named
    assert str(cache.root) in caught.value.problem


def test_a_volume_to_which_all_may_write_is_used_where_it_is_configured(
    tmp_path: Path, give_away: Callable[[Path], None]
) -> None:
    """As an ``emptyDir`` of Kubernetes is, or a tmpfs; but nothing in it that another user has made."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    before = os.umask(0)  # as some images have it
    try:
        cache = open_cache(str(volume))
        cache.uv.mkdir(parents=True)
        assert open_cache(str(volume / "below")).root == volume / "below"
        assert open_cache(str(volume)) == cache
    finally:
        os.umask(before)
    cache.layers.rmdir()
    cache.layers.symlink_to(tmp_path)
    give_away(cache.layers)
    with pytest.raises(LayerError, match=f"{cache.layers} is a symbolic link of another user"):
        open_cache(str(volume))


def test_a_link_of_our_own_is_followed(shared: Path, tmp_path: Path) -> None:
    """A user may move the cache to another file system by a symbolic link."""
    (tmp_path / "large").mkdir(mode=0o700)
    (shared / "cache").symlink_to(tmp_path / "large")
    assert open_cache(str(shared / "cache")).layers.resolve() == tmp_path / "large" / "layers"


NOEXEC = """
import os, subprocess, sys, tempfile
home, temporary = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", home], check=True)
os.environ["XDG_CACHE_HOME"], tempfile.tempdir = home, temporary
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.reports.failure import LayerError
print(open_cache().root.parent)
print(open_cache(programs=False).root.parent)
try:
    open_cache(home + "/configured")
except LayerError as error:
    print(error)
"""


def test_a_file_system_without_execution_is_passed_over_or_told(tmp_path: Path) -> None:
    """By default another directory is used; a configured one is told, with the setting that moves it."""
    unshare = [shutil.which("unshare") or "", "--user", "--map-root-user", "--mount"]
    if not unshare[0] or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine mounts nothing for us")
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    argv = [*unshare, sys.executable, "-c", NOEXEC, str(tmp_path / "home"), str(tmp_path / "temporary")]
    env = surroundings(PYTHONPATH=str(SOURCE))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    first, second, *told = done.stdout.splitlines() or [done.stderr, ""]
    assert (first, second) == (str(tmp_path / "temporary"), str(tmp_path / "home"))
    assert "mounted noexec" in " ".join(told)
    assert "DASK_PKGSYNC__CACHE_DIRECTORY" in " ".join(told)


def test_where_no_program_runs_the_configured_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what the directory is, and a client, which only packs there, may use it."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(LayerError, match=r"programs cannot run \(it is mounted noexec\)"):
        open_cache(str(tmp_path / "cache"))
    assert open_cache(str(tmp_path / "cache"), programs=False).root == tmp_path / "cache"
