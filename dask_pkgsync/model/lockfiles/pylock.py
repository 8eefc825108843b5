"""Reads pylock.toml (PEP 751) with packaging, whose newer releases own the format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packaging.markers import default_environment
from packaging.utils import canonicalize_name

from dask_pkgsync.model.environments.origin import FromArchive, FromIndex, FromVcs
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.markers import variables_of
from dask_pkgsync.model.lockfiles.pin import Pin, digests
from dask_pkgsync.model.lockfiles.tables import pins_of_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from packaging.tags import Tag

    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.environments.origin import Origin
    from dask_pkgsync.model.lockfiles.pin import Choice


def pins_of_pylock(
    name: str, data: dict[str, Any], interpreter: Interpreter, choice: Choice, tags: Collection[Tag] = ()
) -> Iterator[Pin]:
    """Yield each pin of a pylock.toml that was chosen and applies to an interpreter.

    Parameters
    ----------
    name : str
        Path of the file, for messages.
    data : dict
        Its content.
    interpreter : Interpreter
    choice : Choice
    tags : collection of Tag
        The tags of wheels that the interpreter takes; empty: those of this process.

    Raises
    ------
    PolicyError
        If the file is not as PEP 751 says, or covers neither this Python nor this platform.
    """
    try:
        from packaging.pylock import Pylock, PylockSelectError, PylockValidationError
    except ImportError:  # packaging before 26.1
        yield from pins_of_tables(name, data, interpreter, choice)
        return
    try:
        lock = Pylock.from_dict(data)
        selected = list(
            lock.select(
                environment={**default_environment(), **variables_of(interpreter)},  # type: ignore[arg-type]  # its keys
                tags=list(tags) or None,
                extras=choice.extras or None,
                dependency_groups=choice.groups or None,
            )
        )
    except PylockSelectError as error:
        raise PolicyError(f"{name} does not cover this platform, or what was chosen of it: {error}") from None
    except PylockValidationError as error:
        raise PolicyError(f"{name}: is no pylock.toml as PEP 751 has it: {error}") from None
    for package, _ in selected:
        if package.directory is not None:  # a project on the disk of whoever locked
            continue
        files: list[Any] = [*(package.wheels or ()), *([package.sdist] if package.sdist else [])]
        hashes = digests(f"{kind}:{digest}" for file in files for kind, digest in file.hashes.items())
        version = "0" if package.version is None else str(package.version)
        yield Pin(str(canonicalize_name(package.name)), version, hashes, origin=_origin(package))


def _origin(package: Any) -> Origin:
    if (vcs := package.vcs) is not None:
        return FromVcs(vcs.url or vcs.path or "", vcs.commit_id, vcs.type, vcs.subdirectory or "")
    if (archive := package.archive) is not None:
        digest = archive.hashes.get("sha256", "")
        return FromArchive(archive.url or archive.path or "", f"sha256={digest}" if digest else "")
    return FromIndex()
