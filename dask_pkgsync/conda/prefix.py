"""Builds the prefix that stands in the place of a node's base: exactly the client's conda packages, and nothing else.

It is built aside with its final path written into it, verified file by file, and published as any layer is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache import trees
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.cache.verified import VerifiedFiles
from dask_pkgsync.conda.installer import CondaInstaller, Wanted
from dask_pkgsync.conda.program import put
from dask_pkgsync.conda.records import label, take_over
from dask_pkgsync.conda.refusals import refuse_long_path, refuse_missing, refuse_unfit
from dask_pkgsync.conda.verify import verify
from dask_pkgsync.layers.fill import FROM_INDEX
from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.layers.publication import (
    altered,
    built_aside,
    existing,
    facts_about,
    filled_and_verified,
    found_or_built,
    publish,
)
from dask_pkgsync.model.blobs import CONDA_SUFFIXES, archive_name, request_for_conda
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.sources import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.conda.records import Installed
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.manifest import Changes
    from dask_pkgsync.model.environments.conda import CondaPackage

FORMAT = 1
"""A number that changes whenever a new release would build another prefix from the same packages."""
ROUNDS = 4
"""Runs of the installer that one builder may need: a second one with what the client gave, and both once more if the
package cache turns out to be damaged."""
_POST_LINK = "bin/.{}-post-link.sh"
"""The script with which a package wants to be finished, for example to register fonts. It would write the path of the
directory in which the prefix is built, so it is not run."""


@dataclass(frozen=True)
class CondaSources:
    """Where conda packages come from."""

    transport: str = "index"
    """``index``: from their channels; the client gives only what came from local files. ``client``: all from the
    client. ``auto``: like ``index``, and the client gives also what the channels turn out not to have."""
    fetch: Fetch = FROM_INDEX.fetch
    """Gets archives from the client."""


FROM_CHANNELS = CondaSources()


def prefix_digest(packages: Iterable[CondaPackage], cache: Cache) -> str:
    """Return the name of the prefix with these packages: the digest of what they are, and of where it lies."""
    parts = [FORMAT, str(cache.root), sorted([*package.key, package.identity] for package in packages)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def build_prefix(
    packages: Sequence[CondaPackage],
    cache: Cache,
    tool: Callable[[], Path],
    sources: CondaSources = FROM_CHANNELS,
    *,
    timeout: float,
) -> Layer:
    """Return the prefix with some packages: the existing one, or a new one. Blocks.

    Parameters
    ----------
    packages : sequence of CondaPackage
        What the prefix holds, interpreter included.
    cache : Cache
        The directory that holds the layers.
    tool : callable
        Returns the directory that holds py-rattler; it is not called if the prefix exists already.
    sources : CondaSources
        Where packages come from.
    timeout : float
        Seconds that one run of the installer may take. If another process builds the same prefix, this one waits
        `ROUNDS` times as long for it.

    Raises
    ------
    LayerError
        If the prefix cannot be built. Nothing of it is left behind.
    """
    digest = prefix_digest(packages, cache)
    refuse_long_path(packages, cache.layers / digest)

    def anew(changes: Changes) -> Layer:
        with built_aside(cache) as aside:
            installer = CondaInstaller(tool(), cache.conda, timeout)
            return _built(packages, cache, installer, sources, digest, changes, aside)

    return found_or_built(cache, digest, anew, wait=timeout * ROUNDS)


def _built(
    packages: Sequence[CondaPackage],
    cache: Cache,
    installer: CondaInstaller,
    sources: CondaSources,
    digest: str,
    changes: Changes,
    aside: Path,
) -> Layer:
    built, final = aside / "prefix", cache.layers / digest
    filler = PrefixFiller(packages, installer, sources)

    def fill() -> _Filled:
        installed = filler.fill(built, final)
        tree, verified = Tree(str(built)), VerifiedFiles(cache)
        try:
            return _Filled(tree, verify(tree, installed, verified))
        finally:
            verified.save()

    def forget(labels: tuple[str, ...]) -> None:
        filler.forget(labels, aside)
        trees.remove(built)

    filled = filled_and_verified(fill, forget)
    notes = (*filler.notes, *_unfinished(packages, filled.tree))
    layer = Layer(
        digest, final, complete=True, pins=(), fetched=filled.size, notes=notes, built=uuid.uuid4().hex,
        altered=altered(existing(cache, digest), changes), whole=str(final),
    )  # fmt: skip
    publish(filled.tree, final, facts_about(layer))
    return layer


@dataclass(frozen=True)
class _Filled:
    """What was installed into a prefix and verified."""

    tree: Tree
    size: int
    """Bytes of all files of the packages."""


def _unfinished(packages: Iterable[CondaPackage], tree: Tree) -> list[str]:
    """Return a sentence for each package with a script that should have been run."""
    scripts = {package: _POST_LINK.format(package.name) for package in packages}
    return [
        f"{label(package)} wants to run {script} after its installation, which was not done"
        for package, script in scripts.items()
        if script in tree.files
    ]


class PrefixFiller:
    """Fills one prefix.

    Parameters
    ----------
    packages : sequence of CondaPackage
    installer : CondaInstaller
    sources : CondaSources
    """

    def __init__(self, packages: Sequence[CondaPackage], installer: CondaInstaller, sources: CondaSources) -> None:
        self.packages, self.installer, self.sources = packages, installer, sources
        self.notes: list[str] = []

    def fill(self, prefix: Path, final: Path) -> tuple[Installed, ...]:
        """Install all packages into a new directory. Blocks.

        Parameters
        ----------
        prefix : Path
            The directory to fill.
        final : Path
            The directory that it will be renamed to, which its files name.

        Raises
        ------
        LayerError
            If the node cannot have one of the packages, or no source has it.
        """
        answer = self.installer.install(list(map(self.wanted, self.packages)), prefix, final)
        refuse_unfit(self.packages, answer)
        if answer.missing:
            by_name = {package.name: package for package in self.packages}
            self.ask_client({by_name[name]: why for name, why in answer.missing.items()})
            answer = self.installer.install(list(map(self.wanted, self.packages)), prefix, final)
            refuse_unfit(self.packages, answer)
            missing = {by_name[name]: why for name, why in answer.missing.items()}
            refuse_missing(missing, None, asked_client=True, asked_channel=self.may_ask_channel)
        installed = take_over(prefix, self.packages)
        for place in (place for package in self.packages for place in self.places_of(package)):  # all are unpacked now
            shutil.rmtree(self.installer.archives / Path(place).parent, ignore_errors=True)
        return installed

    @property
    def may_ask_channel(self) -> bool:
        """Whether channels may be asked."""
        return self.sources.transport != "client"

    def wanted(self, package: CondaPackage) -> Wanted:
        """Return what the installer has to know of a package."""
        by_channel = self.may_ask_channel and not package.modified and bool(package.url)
        return Wanted(package, self.places_of(package), package.url if by_channel else "")

    def places_of(self, package: CondaPackage) -> tuple[str, ...]:
        """Return where the archive of a package may be: the recorded one, and the one that the client rebuilt."""
        key = package.identity or hashlib.sha256(package.url.encode()).hexdigest()[:32]
        rebuilt = self.rebuilt(package)
        own = () if package.content and rebuilt else (f"{key}/{package.filename}",)
        return (*own, rebuilt) if rebuilt else own

    def rebuilt(self, package: CondaPackage) -> str | None:
        """Return the place of the archive of a package that the client once rebuilt; None if it never did."""
        with contextlib.suppress(OSError):
            place = self.note_of(package).read_text(encoding="utf-8")
            return place if re.fullmatch(r"[0-9a-f]{64}/[^/]+", place) else None
        return None

    def note_of(self, package: CondaPackage) -> Path:
        """Return the file that holds the place of a rebuilt archive."""
        key = json.dumps([*package.key, package.identity])
        return self.installer.root / "rebuilt" / hashlib.sha256(key.encode()).hexdigest()

    def ask_client(self, missing: Mapping[CondaPackage, str]) -> None:
        """Get the archives of packages from the client, as far as it may give them."""
        is_asked = {package: self.may_give(package) for package in missing}
        asked = {package: request_for_conda(package) for package in missing if is_asked[package]}
        beyond = {package: why for package, why in missing.items() if not is_asked[package]}
        refuse_missing(beyond, None, asked_client=False, asked_channel=self.may_ask_channel)
        try:
            archives = self.sources.fetch(list(asked.values()))
        except LayerError as error:
            refuse_missing(missing, error, asked_client=True, asked_channel=self.may_ask_channel)
            raise
        for package, request in asked.items():
            path, note = archives[request]
            self.take(package, path)
            self.notes += [note] if note else []

    def may_give(self, package: CondaPackage) -> bool:
        """Whether the client may give a package: with the transport ``index`` only what no channel can have."""
        is_local = bool(package.modified) or not package.url or package.url.startswith("file:")
        return is_local or self.sources.transport != "index"

    def take(self, package: CondaPackage, path: Path) -> None:
        """Put the archive that the client has given where the installer finds it, and remember it if it was rebuilt."""
        suffix = next((suffix for suffix in CONDA_SUFFIXES if path.name.endswith(suffix)), "")
        if not suffix:
            raise LayerError(
                "receive", f"the client has given {path.name}, which is no archive of {label(package)}",
                packages=(label(package),),
            )  # fmt: skip
        digest = sha256_of(path)
        if digest == package.sha256:
            _link(path, self.installer.archives / digest / package.filename)
            return
        place = f"{digest}/{archive_name(request_for_conda(package), suffix)}"
        _link(path, self.installer.archives / place)
        _write(self.note_of(package), place)

    def forget(self, labels: Iterable[str], work: Path) -> None:
        """Remove packages from the package cache: a file that was changed in a prefix may be the same file there."""
        wrong = frozenset(labels)
        for package in self.packages:
            if label(package) not in wrong:
                continue
            self.note_of(package).unlink(missing_ok=True)
            pattern = f"{package.name}-{package.version}-{package.build}-*"
            for unpacked in filter(Path.is_dir, self.installer.packages.glob(pattern)):
                unpacked.rename(work / f"forgotten-{unpacked.name}")  # whoever links its files now goes on doing so


def _link(path: Path, to: Path) -> None:
    """Make a file appear in another place at once, as a link if the file system has links."""
    aside = to.parent.with_name(f"{os.getpid()}-{to.parent.name}-{to.name}")
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, aside)
    put(aside, to)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
