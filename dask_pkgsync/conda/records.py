"""The records (``conda-meta``) of the packages in a prefix that was just built: read once, and written as the client's.

The installer writes into a record from where it took the archive. That is a place in our cache, and the archive may
have been rebuilt by the client. A scan of the prefix has to find the client's packages: so each record gets the
channel, the URL and the digests that the client's has, none of which holds credentials.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.conda_content import content_digest, contents_of, recorded_digest
from dask_pkgsync.scanning.conda_files import read_record, record_path
from dask_pkgsync.scanning.conda_meta import AS_MODIFIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dask_pkgsync.model.environments.conda import CondaPackage

_FILES = b'\n  "files": ['
_PATHS = b'\n  "paths_data": {'
_END = b"\n  }"
"""How the lists of files begin, and how they end, in a record that is indented as py-rattler writes it."""
_FROZEN = {
    "message": "This environment belongs to dask-pkgsync, and is never changed. Sync from one that has the package."
}
"""What tools of conda tell who wants to install something into a prefix (CEP 22)."""
_OF_FILES = ("files", "paths_data")
_OF_CACHE = ("extracted_package_dir", "package_tarball_full_path", "link")
"""Keys of a record that name places in the installer's cache."""


@dataclass(frozen=True)
class Installed:
    """A package that was installed into a prefix."""

    package: CondaPackage
    paths: list[dict[str, Any]] = field(default_factory=list)
    """What its record says of each file, as in ``paths_data``."""
    source: Path | None = None
    """The directory in the installer's cache in which it was unpacked."""


def label(package: CondaPackage) -> str:
    """Return a package as errors name it, for example ``numpy=2.1.0=py312h1103770_0``."""
    return f"{package.name}={package.version}={package.build}"


def record_of(package: CondaPackage) -> dict[str, Any]:
    """Return the record of a package, without its files and places, as conda writes it."""
    record: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": package.build_number,
        "subdir": package.subdir,
        "channel": package.channel,
        "depends": list(package.depends),
        "constrains": list(package.constrains),
        "noarch": package.noarch,
        "sha256": package.sha256,
        "md5": package.md5,
        "size": package.size,
        "python_site_packages_path": package.python_site_packages,
        AS_MODIFIED: {"modified": package.modified, "content": package.content} if package.content else None,
    }
    return {key: value for key, value in record.items() if value or key in ("build_number", "channel", "depends")}


def take_over(prefix: Path, packages: Iterable[CondaPackage]) -> tuple[Installed, ...]:
    """Read the record of each package in a prefix, and write it anew, as the client's. Blocks.

    Raises
    ------
    LayerError
        If a package has no record, or its files are those of another package.
    """
    found, wrong = [], []
    for package in packages:
        path = record_path(prefix, package)
        try:
            text = path.read_bytes()
            record = json.loads(text)
            paths = record["paths_data"]["paths"]
            source = Path(record["link"]["source"])
            is_right = _is_of(json.loads((source / "info" / "index.json").read_bytes()), package)
        except (OSError, ValueError, KeyError, TypeError):
            is_right = False
        if is_right and package.content:
            is_right = _content_of(path) == package.content
        if not is_right:
            wrong.append(label(package))
            continue
        found.append(Installed(package, paths, source))
        path.unlink()  # a file that anybody may read takes its place
        path.write_bytes(_as_recorded(text, record, package))
    if wrong:
        raise LayerError(
            "verify",
            f"these packages are not completely installed, or hold other files than the client's: {', '.join(wrong)}",
            advice="Run the sync again, after a new scan if packages were changed in the client's environment.",
            packages=tuple(wrong),
        )
    (prefix / "conda-meta" / "frozen").write_text(json.dumps(_FROZEN), encoding="utf-8")
    return tuple(found)


def _is_of(index: Mapping[str, Any], package: CondaPackage) -> bool:
    return (index.get("name"), index.get("version"), index.get("build")) == (
        package.name,
        package.version,
        package.build,
    )


def _content_of(path: Path) -> str:
    """Return the digest of the content that a record lists (`CondaPackage.content`)."""
    return content_digest((file, recorded_digest(file)) for file in contents_of(read_record(path)))


def _as_recorded(text: bytes, record: dict[str, Any], package: CondaPackage) -> bytes:
    """Return the text of a record that names the origin that the client's names.

    Its lists of files are taken over as they are: to write them anew takes as long as all the rest of an installation.
    """
    kept = {key: value for key, value in record.items() if key not in (*_OF_FILES, *_OF_CACHE)}
    for key in ("sha256", "md5", "size"):
        kept.pop(key, None)
    named = {"fn": package.filename, "url": package.url}
    kept = {**kept, **record_of(package), **{key: value for key, value in named.items() if value}}
    if not package.url:
        kept.pop("url", None)
    start = text.find(_FILES)
    end = text.find(_END, text.find(_PATHS, start))
    if start < 0 or end < start:
        return json.dumps({**kept, **{key: record.get(key) for key in _OF_FILES}}, indent=2).encode()
    head = json.dumps(kept, indent=2).removesuffix("\n}").encode()
    return head + b"," + text[start : end + len(_END)] + b"\n}"
