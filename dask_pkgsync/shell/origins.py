"""Where a distribution came from (PEP 610), without anybody's credentials."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from dask_pkgsync.core.environment import FromArchive, FromDirectory, FromVcs

if TYPE_CHECKING:
    from dask_pkgsync.core.environment import Origin

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

    The bare user of an SSH address (``git@host``) is no secret and stays.
    """
    parts = urlsplit(_line(url))
    path = parts.path if parts.netloc or parts.scheme == "file" else _without_password(parts.path, parts.scheme)
    user, at, host = parts.netloc.rpartition("@")
    ssh = at and "ssh" in parts.scheme and ":" not in user and "$" not in user
    fragments = (part for part in parts.fragment.split("&") if part.startswith(_HARMLESS_FRAGMENTS))
    return urlunsplit((parts.scheme, parts.netloc if ssh else host, path, "", "&".join(fragments)))


def _without_password(path: str, scheme: str) -> str:
    """Strip the user where a URL lacks its slashes; the bare one of ``git@host:x`` stays."""
    user, at, rest = path.rpartition("@")
    return rest if at and (scheme or ":" in user or "$" in user) else path


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:1000]
