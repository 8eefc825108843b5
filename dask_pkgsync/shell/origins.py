"""Where a distribution came from (PEP 610), without anybody's credentials."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from dask_pkgsync.core.environment import FromArchive, FromDirectory, FromVcs

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from dask_pkgsync.core.environment import Origin

_SSH_USER = "git"
_HARMLESS_FRAGMENTS = ("subdirectory=", "egg=", "sha256=", "sha384=", "sha512=")


def parse_direct_url(text: str) -> Origin:
    """Read a ``direct_url.json``.

    Raises
    ------
    ValueError
        If it is no PEP 610 document.
    """
    try:
        data = json.loads(text)
        url = without_credentials(data["url"])
        match data:
            case {"vcs_info": {"commit_id": str(commit), "vcs": str(vcs)}}:
                return FromVcs(url, _line(commit), _line(vcs), _line(data.get("subdirectory") or ""))
            case {"dir_info": dict(info)}:
                return FromDirectory(url, bool(info.get("editable", False)))
            case {"archive_info": dict(info)}:
                return FromArchive(url, _digest(info))
    except (KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("not a direct URL (PEP 610)")


def _digest(info: dict[str, Any]) -> str:
    hashes = info.get("hashes") or {}
    if "sha256" in hashes:
        return f"sha256={_line(hashes['sha256'])}"
    return _line(info.get("hash") or "")


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query (where tokens are), and fragments that are not known to be harmless.

    The user ``git`` of an SSH address (``git@host``) is no secret and stays; any other may be a token.
    """
    url = _line(url)
    parts = urlsplit(url)
    if not _has_authority(parts):
        return _after_credentials(url)
    user, _, host = parts.netloc.rpartition("@")
    ssh = parts.scheme.endswith("ssh") and user == _SSH_USER
    fragments = (part for part in parts.fragment.split("&") if part.startswith(_HARMLESS_FRAGMENTS))
    return urlunsplit((parts.scheme, parts.netloc if ssh else host, parts.path, "", "&".join(fragments)))


def _has_authority(parts: SplitResult) -> bool:
    """Whether the host is where a URL has it, so that nothing after it can be a part of a password."""
    try:
        return parts.port is not None or bool(parts.hostname) or parts.scheme.endswith("file")
    except ValueError:  # a port that is no number: the password holds a / or #
        return False


def _after_credentials(address: str) -> str:
    """Keep what follows the last @ of what is no proper URL (``git@host:path``, as ssh has it)."""
    user, _, rest = address.rpartition("@")
    rest = re.split("[?#]", rest, maxsplit=1)[0]
    return f"{user}@{rest}" if user == _SSH_USER else rest


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:1000]
