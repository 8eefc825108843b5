"""One look at a tree says all about its files, and makes its directories read-only."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from dask_pkgsync.cache import trees
from dask_pkgsync.cache.trees import BYTECODE, Tree

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, *paths: str) -> None:
    """Write files with their own path as content."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def test_each_file_is_looked_at_once_and_links_are_not_followed(tmp_path: Path) -> None:
    """What Python writes itself is left out; a link is what it is."""
    write(tmp_path, "a.py", "pkg/b.py", f"pkg/{BYTECODE}/b.pyc", "pkg/data/c.csv")
    (tmp_path / "link").symlink_to("pkg")
    (tmp_path / "dangling").symlink_to("nothing")
    files = Tree(str(tmp_path)).files
    assert files.keys() == {"a.py", "pkg/b.py", "pkg/data/c.csv", "link", "dangling"}
    assert all(facts == (tmp_path / path).lstat() for path, facts in files.items())
    assert stat.S_ISLNK(files["link"].st_mode)


def test_modules_get_a_place_for_bytecode_and_the_rest_is_read_only(tmp_path: Path) -> None:
    """Tests of packages get none; the root stays as it is, since it will be renamed; and all can be removed again."""
    root = tmp_path / "root"
    write(root, "a.py", "pkg/b.py", f"pkg/{BYTECODE}/b.pyc", "pkg/sub/c.py", "pkg/data/d.csv", "pkg/tests/e.py")
    write(root, "pkg/tests/sub/f.py", "pkg/testing/g.py")
    Tree(str(root)).make_read_only()
    places = {str(path.parent.relative_to(root)) for path in root.rglob(BYTECODE)}
    assert places == {".", "pkg", "pkg/sub", "pkg/testing"}
    writable = {path.name for path in root.rglob("*") if path.is_dir() and path.stat().st_mode & 0o222}
    assert writable == {BYTECODE}
    assert root.stat().st_mode & 0o200
    assert all(path.stat().st_mode & 0o200 for path in root.rglob("*.py"))
    trees.make_read_only(root)
    assert not root.stat().st_mode & 0o222
    assert os.listdir(root)  # noqa: PTH208
    trees.remove(root)
    assert not root.exists()
