"""Keeps passwords of indexes in a netrc file of our own.

pip runs itself again to install the requirements of a build, with the URLs of its indexes on the command line, which
all users of the machine can read. In URLs without passwords it looks for these in netrc.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = re.compile(r"""[^\s"'\\#]+""")
"""A word that all versions of Python read in the same way in a netrc file."""


def without_passwords(urls: Iterable[str], directory: Path) -> tuple[list[str], dict[str, str]]:
    """Write the passwords in some URLs into a netrc file that only this user can read.

    A URL keeps its password if netrc cannot hold it: it has one entry for each host.

    Parameters
    ----------
    urls : iterable of str
    directory : Path
        Directory of the file, which is removed after the installation.

    Returns
    -------
    tuple
        The URLs without the passwords, and the environment variable that names the file.
    """
    entries: dict[str, tuple[str, str]] = {}
    bare = [_without_password(url, entries) for url in urls]
    if not entries:
        return bare, {}
    own = "".join(f"machine {host} login {user} password {password}\n" for host, (user, password) in entries.items())
    path = directory / "netrc"
    path.touch(mode=0o600)
    path.write_text(f"{_of_the_user()}\n{own}")
    return bare, {"NETRC": str(path)}


def _without_password(url: str, entries: dict[str, tuple[str, str]]) -> str:
    try:
        parts = urlsplit(url)
        host, user, password = parts.hostname, unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:  # no URL that could be taken apart
        return url
    if not host or not _PLAIN.fullmatch(user) or not _PLAIN.fullmatch(password):
        return url
    if entries.setdefault(host, (user, password)) != (user, password):
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _of_the_user() -> str:
    """Return the content of the user's own netrc file, which the installer would read without ours."""
    named = os.environ.get("NETRC")
    paths = [Path(named)] if named else [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]
    with contextlib.suppress(OSError, ValueError):
        return next((path.read_text(encoding="utf-8") for path in paths if path.is_file()), "")
    return ""
