"""Where a cache directory may lie: nobody else can have put something there, and programs in it can run."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_OTHERS = stat.S_IWOTH
_GROUP_AND_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def planted(path: Path) -> str | None:
    """Return which part of a path another user may have made, as a sentence; None if there is no such part.

    In a directory that others may write to (``/tmp``), anybody may have made a directory or a symbolic link of the name
    that we look for. So there, all that we use must belong to us, or to root.

    Parameters
    ----------
    path : Path
        A directory; parts of it that do not exist are passed over.
    """
    if not hasattr(os, "getuid"):
        return None
    absolute = path.absolute()
    for whole in dict.fromkeys((absolute, Path(os.path.realpath(absolute)))):
        for part in (*reversed(whole.parents), whole):
            if os.path.lexists(part) and _is_open(part.parent, _GROUP_AND_OTHERS) and not _is_ours(part):
                kind = "symbolic link" if part.is_symlink() else "directory" if part.is_dir() else "file"
                return f"{part} is a {kind} of another user (uid {part.lstat().st_uid})"
    return None


def shared(path: Path, *, chosen: bool) -> str | None:
    """Return why others than we, or root, can have filled a directory; None if they cannot, or it does not exist.

    Parameters
    ----------
    path : Path
    chosen : bool
        Whether an operator has chosen the directory. Then it may be a volume that is open to others, such as an
        ``emptyDir`` of Kubernetes, unless it is itself in a directory that others may write to.
    """
    if not hasattr(os, "getuid") or not path.exists() or (chosen and not _is_open(path.parent, _OTHERS)):
        return None
    if not _is_ours(path) or not _is_ours(path.resolve()):
        return f"{path} belongs to another user"
    return f"other users may write to {path}" if _is_open(path, _OTHERS) else None


def runs_programs(directory: Path) -> bool:
    """Whether programs in a directory may be started: not if its file system is mounted ``noexec``.

    Linux tells by access(2). On other systems the answer is True in any case.

    Raises
    ------
    OSError
        If no file can be written there.
    """
    import tempfile  # imported here because it is slow to import, and each scan imports this module

    with tempfile.NamedTemporaryFile(dir=directory) as file:
        Path(file.name).chmod(0o700)
        return os.access(file.name, os.X_OK)


def _is_ours(path: Path) -> bool:
    """Whether a file, directory or symbolic link itself belongs to us, or to root."""
    return path.lstat().st_uid in (0, os.getuid())


def _is_open(directory: Path, bits: int) -> bool:
    """Whether the mode of a directory lets some of the group or of others write to it."""
    with contextlib.suppress(OSError):
        return bool(directory.stat().st_mode & bits)
    return False
