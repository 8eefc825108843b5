"""Every byte of an installed file is verified against RECORD."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from installed_packages import write_package

from dask_pkgsync import LayerError
from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.cache.verified import VerifiedFiles
from dask_pkgsync.layers.clashes import clashes
from dask_pkgsync.layers.verify import verify
from dask_pkgsync.scanning.records import entries, listed, module_names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    return open_cache(str(tmp_path / "cache"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return an empty directory of distributions."""
    directory = tmp_path / "layer" / "lib" / "python" / "site-packages"
    directory.mkdir(parents=True)
    return directory


def check(site: Path, cache: Cache, *names: str) -> int:
    """Verify version 1.0 of some distributions."""
    verified = VerifiedFiles(cache)
    tree = Tree(str(site.parents[2]))
    try:
        return verify(tree, "lib/python/site-packages", listed(site), [f"{name}==1.0" for name in names], verified)
    finally:
        verified.save()


def test_records_are_held_against_the_files(site: Path, cache: Cache) -> None:
    """Short and missing files, a missing INSTALLER, RECORD or distribution are all found, in one error."""
    for name in ("short", "gone", "bare", "unrecorded", "changed", "good"):
        write_package(site, name, **{f"{name}.py": "x = 1\n"})
    (site / "short.py").write_text("x")
    (site / "gone.py").unlink()
    (site / "bare-1.0.dist-info" / "INSTALLER").unlink()
    (site / "unrecorded-1.0.dist-info" / "RECORD").unlink()
    (site / "changed.py").write_text("x = 2\n")
    with pytest.raises(LayerError) as caught:
        check(site, cache, "short", "gone", "bare", "unrecorded", "changed", "good", "absent")
    text = str(caught.value)
    for part in (
        "short.py has 1 bytes instead of 6",
        "gone.py is missing",
        "bare==1.0: not completely",
        "no RECORD",
        "changed.py does not have the recorded digest",
        "absent==1.0: not installed",
    ):
        assert part in text
    assert "good" not in text
    assert "good==1.0" not in caught.value.packages
    assert check(site, cache, "good") > 0
    assert module_names(site / "good-1.0.dist-info") == {"good"}
    assert not list(entries(site / "nothing"))


def test_files_anywhere_in_the_layer_are_verified(site: Path, cache: Cache) -> None:
    """Scripts and data below the prefix, bytecode of the wheel, and files that a link leads to."""
    prefix = site.parents[2]
    (prefix / "lib64").symlink_to("lib")
    paths = ("../../../bin/run", "../../../lib64/data.txt", "pkg/__pycache__/a.pyc", "with, comma.txt")
    (prefix / "bin").mkdir()
    write_package(site, "one", **dict.fromkeys(paths, "text"))
    assert check(site, cache, "one") > 0
    for path in paths:
        (site / path).write_text("TEXT")
        with pytest.raises(LayerError, match="does not have the recorded digest"):
            check(site, cache, "one")
        (site / path).write_text("text")
    assert check(site, cache, "one") > 0


def test_digests_of_any_allowed_algorithm_count_and_no_other(site: Path, cache: Cache) -> None:
    """What no one can verify is not verified; a file without a digest goes by its size."""
    write_package(site, "one", **{"one.py": "x = 1\n"})
    record = site / "one-1.0.dist-info" / "RECORD"
    lines = record.read_text().splitlines()[1:]

    def check_line(line: str) -> int:
        record.write_text("\n".join([line, *lines]))
        return check(site, cache, "one")

    with pytest.raises(LayerError, match="recorded digest"):
        check_line(f"one.py,sha512={'A' * 86},6")
    found = base64.urlsafe_b64encode(hashlib.sha512(b"x = 1\n").digest()).decode()
    assert check_line(f"one.py,sha512={found.rstrip('=')},6") > 0
    assert check_line(f"one.py,sha512={found},6") > 0
    md5 = base64.urlsafe_b64encode(hashlib.md5(b"x = 1\n").digest()).decode().rstrip("=")
    for digest in (f"md5={md5}", "shake_128=AA", "nonsense"):
        with pytest.raises(LayerError, match="recorded digest"):
            check_line(f"one.py,{digest},6")
    assert check_line("one.py,,6") > 0
    assert check_line("one.py,,") > 0
    with pytest.raises(LayerError, match="bytes instead of 7"):
        check_line("one.py,,7")


def test_what_was_verified_once_is_not_read_again(site: Path, cache: Cache) -> None:
    """A file that other layers link to is read once on a host; a later edit of it is found in each of them."""
    write_package(site, "one", **{"one.py": "x = 1\n", "alone.py": "y = 1\n"})
    settled = (10**18 + 1, 10**18 + 1)
    shared = cache.root / "one.py"
    for path in (site / "one.py", site / "alone.py"):
        os.utime(path, ns=settled)
    os.link(site / "one.py", shared)
    assert check(site, cache, "one") > 0
    shared.write_text("x = 2\n")
    with pytest.raises(LayerError, match=r"one\.py does not have the recorded digest"):
        check(site, cache, "one")
    os.utime(shared, ns=settled)
    assert check(site, cache, "one") > 0, "it was read again"
    (site / "alone.py").write_text("y = 2\n")
    os.utime(site / "alone.py", ns=settled)
    with pytest.raises(LayerError, match=r"alone\.py does not have the recorded digest"):
        check(site, cache, "one")


def test_what_was_wrong_once_is_read_again(site: Path, cache: Cache) -> None:
    """A digest that was found is remembered as it is, and is never taken for the one that RECORD has."""
    write_package(site, "one", **{"one.py": "x = 1\n"})
    (site / "one.py").write_text("x = 2\n")
    os.utime(site / "one.py", ns=(10**18 + 1, 10**18 + 1))
    os.link(site / "one.py", cache.root / "one.py")
    for _ in range(2):
        with pytest.raises(LayerError, match=r"one\.py does not have the recorded digest"):
            check(site, cache, "one")


def test_many_files_are_read_by_several_threads(site: Path, cache: Cache) -> None:
    """Each problem among many hundred files is told once."""
    write_package(site, "many", **{f"many/m{number}.py": f"x = {number:04}\n" for number in range(500)})
    assert check(site, cache, "many") > 500 * 9
    for number in (0, 250, 499):
        (site / "many" / f"m{number}.py").write_text("x = none\n")
    with pytest.raises(LayerError) as caught:
        check(site, cache, "many")
    assert str(caught.value).count("recorded digest") == 3


def test_what_somebody_else_wrote_over_is_no_clash(site: Path, cache: Cache) -> None:
    """A file that is none of those that were recorded was not installed; clashes without digests go by size."""
    write_package(site, "one", **{"shared.py": "x = 1"})
    write_package(site, "two", **{"shared.py": "x = 22"})
    write_package(site, "three", **{"shared.py": "x = 3"})
    names = ("one", "two", "three")
    assert check(site, cache, *names) > 0
    for text, told in (("x = 333", "has 7 bytes instead of 5"), ("x = 4", "does not have the recorded digest")):
        (site / "shared.py").write_text(text)
        with pytest.raises(LayerError, match=rf"shared\.py {told}"):
            check(site, cache, *names)
    for name in names[:2]:
        record = site / f"{name}-1.0.dist-info" / "RECORD"
        record.write_text("shared.py,,4\n" if name == "one" else "shared.py,sha256=x,5\n")
    both = {name: one for name, one in listed(site).items() if name != "three"}
    assert clashes(both)
    (site / "one-1.0.dist-info" / "RECORD").write_text("shared.py,,5\n")
    assert not clashes({name: one for name, one in listed(site).items() if name != "three"})
