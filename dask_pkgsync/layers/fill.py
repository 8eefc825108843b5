"""Fills a layer with distributions from the index, from the client, or from the node's own base."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from packaging.utils import parse_wheel_filename

from dask_pkgsync.layers.environment import make_environment
from dask_pkgsync.layers.layout import site_packages_in
from dask_pkgsync.layers.linking import Linker, NotLinkedError
from dask_pkgsync.layers.unpacked import find_unpacked, fits
from dask_pkgsync.model.blobs import BlobRequest
from dask_pkgsync.model.environments.origin import content_identity
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.plan import Keep, pin
from dask_pkgsync.model.record import entry_of, text_of
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.direct_url import direct_url_of
from dask_pkgsync.scanning.records import entries, installed, listed
from dask_pkgsync.scanning.tags import tags_of
from dask_pkgsync.scanning.wheel_tag import wheel_tag
from dask_pkgsync.wheels.inspection import inspect
from dask_pkgsync.wheels.repack import repack

if TYPE_CHECKING:
    from dask_pkgsync.cache.trees import LookedAt
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.layer import Base
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.plan import Install, Plan, Replace
    from dask_pkgsync.scanning.records import Listed

    Step: TypeAlias = Install | Replace | Keep

Fetch: TypeAlias = Callable[[Sequence[BlobRequest]], Mapping[BlobRequest, tuple[Path, str]]]
"""Returns, for each request, the path of a verified wheel from the client, and a note for people."""

ROUNDS = 3
"""Tries in which the client gives only what the installer names as missing in the index; then it gives everything."""


class ForeignPlatformError(LayerError):
    """A wheel from the client is built for another platform than this node."""


def _no_client(requests: Sequence[BlobRequest]) -> Mapping[BlobRequest, tuple[Path, str]]:
    names = ", ".join(f"{request.name} {request.version}" for request in requests)
    raise LayerError("receive", f"only a client can give {names}", advice="Sync from a client that has it.")


@dataclass(frozen=True)
class Sources:
    """Where distributions come from."""

    transport: str = "index"
    """Where distributions come from. ``index``: from the index; the client gives only local code. ``client``: all from
    the client. ``auto``: like ``index``, and the client gives also what the index turns out not to have."""
    fetch: Fetch = _no_client
    """Gets wheels from the client."""
    indexes: Indexes = OWN
    target: Mapping[str, Distribution] = field(default_factory=dict)
    """The client's distributions, by canonical name."""


FROM_INDEX = Sources()


class Filler:
    """Fills one layer.

    Parameters
    ----------
    plan : Plan
    base : Base
    installer : callable
        Returns the installer; it is not called if nothing has to be installed.
    sources : Sources
    timeout : float
        Seconds that one run of the installer may take.
    uv_cache : Path, optional
        The cache of uv, from which unpacked wheels are linked without uv.
    """

    def __init__(
        self,
        plan: Plan,
        base: Base,
        installer: Callable[[], Installer],
        sources: Sources,
        timeout: float,
        uv_cache: Path | None = None,
    ) -> None:
        self.plan, self.base, self.installer, self.timeout = plan, base, installer, timeout
        self.sources = sources
        self.held: dict[str, Step] = {pin(step): step for step in plan.held}
        is_known = all(step.content or step.identity or step.hashes for step in plan.held)
        self.asks_index = sources.transport == "client" or not is_known
        """Whether the installer asks an index, and does not only look into its own cache. What it has there need not be
        what the index has; so only wheels of the client, and what is verified by its content, may come from there."""
        is_same_python = base.environment.interpreter.tag == wheel_tag()
        self._uv_cache = uv_cache if os.name != "nt" and is_same_python else None
        self.looked_at: Mapping[str, LookedAt] = {}
        """What the directories of packages hold, where only this class has written (`cache.trees.Tree`)."""
        self.wheels: dict[str, Path] = {}
        self.notes: list[str] = []
        self.other_builds: list[str] = []
        """Names of distributions whose build on the client cannot run here: the layer has another build."""

    def fill(self, environment: Path, final: Path) -> tuple[dict[str, Listed], tuple[str, ...]]:
        """Make a virtual environment and install the plan's distributions into it. Blocks.

        Parameters
        ----------
        environment : Path
            The directory to fill.
        final : Path
            The directory that it will be renamed to, which its scripts name.

        Returns
        -------
        tuple
            The installed distributions, by canonical name, and notes for people.

        Raises
        ------
        LayerError
            If no source has one of the distributions.
        """
        everything = self.sources.transport == "client"
        self._refuse_hashes_without_index()
        self._fetch([name for name, step in self.held.items() if everything or step.identity], environment.parent)
        round_ = 0
        while True:
            make_environment(environment, self.base.python, self.base.environment.interpreter)
            try:
                installed_here = self._install(environment, final)
                if installed_here is not None:
                    more = self._other_builds(installed_here)
                    if not more:
                        return installed_here, tuple(self.notes)
                    if self.asks_index:
                        self._fetch_builds(more, environment.parent)
                self.asks_index = True
            except NotLinkedError:
                self._uv_cache = None
            except LayerError as error:
                round_ += 1
                more = self._ask_client_for(error, round_)
                if not more:
                    raise
                try:
                    self._fetch(more, environment.parent)
                except LayerError as client_error:
                    raise _both(error, client_error) from None
            shutil.rmtree(environment)

    def _refuse_hashes_without_index(self) -> None:
        """Raise if files are wanted that a lock file names by their hashes, and no index may be asked for them."""
        wanted = tuple(name for name, step in self.held.items() if step.hashes and not step.identity)
        if wanted and self.sources.transport == "client":
            raise LayerError(
                "install",
                "the lock file names files by their hashes, and no index is asked for them (transport is client)",
                advice="Choose transport='auto', or a lock file without hashes.",
                packages=wanted[:100],
            )

    def _other_builds(self, found: Mapping[str, Listed]) -> list[str]:
        """Return the pins of which the index has given another build than the client's, except those told of."""
        wanted = {name: step for name, step in self.held.items() if step.content and step.name not in self.other_builds}
        differing = [
            name
            for name, step in wanted.items()
            if (one := found.get(step.name)) is not None and one.content != step.content
        ]
        if from_client := [name for name in differing if name in self.wheels]:
            raise LayerError(
                "install",
                f"the client's wheels of {', '.join(from_client)} do not have the files that its environment had",
                advice="Run the sync again: the client's environment was changed meanwhile.",
                packages=tuple(from_client),
            )
        return differing

    def _fetch_builds(self, names: Sequence[str], work: Path) -> None:
        """Get the client's builds of some pins; of those that cannot run here, the build of the index stays."""
        if self.sources.transport == "index":
            raise LayerError(
                "install",
                f"the index has other builds of {', '.join(names)} than the client",
                advice="Let the client provide its builds (transport='auto'), or accept the builds of the index "
                "(builds='warn').",
                packages=tuple(names),
            )
        for name in names:
            self._fetch_build(name, work)

    def _fetch_build(self, name: str, work: Path) -> None:
        try:
            self._fetch([name], work)
        except ForeignPlatformError as error:
            self.other_builds.append(self.held[name].name)
            self.notes.append(f"{error.problem}: it has the build of the index")

    def _install(self, environment: Path, final: Path) -> dict[str, Listed] | None:
        """Install everything, and return what is installed; None if the installer's cache alone did not have it."""
        linked = self._link(environment)
        requirements = [
            f"{name.partition('==')[0]} @ {self.wheels[name].as_uri()}" if name in self.wheels else hashed(name, step)
            for name, step in sorted(self.held.items())
            if step.name not in linked
        ]
        if not requirements:
            return linked
        self.looked_at = {}  # the installer may write anywhere
        indexes = self.sources.indexes.nowhere() if self.sources.transport == "client" else self.sources.indexes
        if self.asks_index:
            self.installer().install(environment, requirements, final=final, timeout=self.timeout, indexes=indexes)
        elif not self.installer().install_cached(
            environment, requirements, final=final, timeout=self.timeout, indexes=indexes
        ):
            return None
        found = {**listed(environment / site_packages_in(self.base.python_directory)), **linked}
        self._write_origins(found)
        return found

    def _link(self, environment: Path) -> dict[str, Listed]:
        """Link the wheels that uv has unpacked in its cache, in the client's builds; return what is installed then.

        Where a lock file names files by their hashes, the installer compares these: an unpacked wheel has none.
        """
        wanted = {
            step.name: step.content
            for name, step in self.held.items()
            if step.content and not step.hashes and name not in self.wheels and step.name not in self.other_builds
        }
        if self._uv_cache is None or not wanted:
            return {}
        linker = Linker(environment)
        unpacked = find_unpacked(self._uv_cache, wanted)
        linked = {name: linker.install(wheel) for name, wheel in sorted(unpacked.items()) if fits(wheel)}
        self.looked_at = linker.looked_at
        return linked

    def _ask_client_for(self, error: LayerError, round_: int) -> list[str]:
        """Return the pins to get from the client after the index failed: those that the error names, later all."""
        if self.sources.transport != "auto" or not error.index_at_fault:
            return []
        if any(step.hashes for name, step in self.held.items() if name in error.packages):
            return []  # what the client has installed is not the file that the lock file names
        left = [name for name, step in self.held.items() if name not in self.wheels and not step.hashes]
        blamed = [name for name in left if name in error.packages]
        return blamed if blamed and round_ <= ROUNDS else left

    def _fetch(self, names: Sequence[str], work: Path) -> None:
        """Get the wheels of some pins: from the client what it has, from the base what only the base has."""
        requests: dict[str, BlobRequest] = {}
        for name in names:
            step = self.held[name]
            if (request := self._request(step)) is not None:
                requests[name] = request
            elif isinstance(step, Keep):
                self.wheels[name] = self._from_base(step, work)
        wheels = self.sources.fetch(list(requests.values())) if requests else {}
        for name, request in requests.items():
            path, note = wheels[request]
            self._check(path, request)
            self.wheels[name] = path
            self.notes += [note] if note else []

    def _request(self, step: Step) -> BlobRequest | None:
        """Return the request to the client for a step; None if the client does not have this version."""
        theirs = self.sources.target.get(step.name)
        if isinstance(step, Keep) and (theirs is None or not theirs.same_version(step.version)):
            return None
        identity = step.identity or (content_identity(step.content) if step.content else "")
        return BlobRequest(step.name, theirs.version if theirs else step.version, identity)

    def _from_base(self, step: Keep, work: Path) -> Path:
        dist_info = installed(self.base.site_packages).get(step.name)
        if dist_info is None:
            raise LayerError("pack", f"{step.name} {step.version} of the base has no dist-info directory")
        try:
            return repack(dist_info, work).path
        except WheelError as error:
            raise LayerError("pack", f"of the base: {error.package}: {error.problem}", advice=error.advice) from None

    def _check(self, path: Path, request: BlobRequest) -> None:
        """Inspect a wheel from the client before an installer reads it, and check that it fits this platform."""
        try:
            inspect(path, name=request.name, version=request.version)
        except WheelError as error:
            raise LayerError("receive", f"{error.package}: {error.problem}", advice=error.advice) from None
        _, _, _, tags = parse_wheel_filename(path.name)
        own = tags_of(self.base.environment.interpreter)
        if tags.isdisjoint(own):
            raise ForeignPlatformError(
                "install",
                f"the client's {request.name} {request.version} is built for {', '.join(sorted(map(str, tags))[:3])}, "
                f"and this node is {own[0]}",
                advice=f"Publish a wheel for the node's platform, or name {request.name} in ignore.",
                packages=(f"{request.name}=={request.version}",),
            )

    def _write_origins(self, found: Mapping[str, Listed]) -> None:
        """Record the client's origin (PEP 610) for each distribution from a wheel, so that scans find the same one."""
        for name in self.wheels:
            step = self.held[name]
            theirs = self.sources.target.get(step.name)
            data = direct_url_of(theirs.origin) if theirs is not None and step.identity else None
            if (one := found.get(step.name)) is not None:
                _write_origin(one.dist_info, None if data is None else json.dumps(data))


def hashed(pin: str, step: Step) -> str:
    """Return a pin with the hashes of the files that it may be installed from, as pip and uv read them."""
    return " ".join([pin, *(f"--hash=sha256:{digest}" for digest in step.hashes)])


def _write_origin(dist_info: Path, text: str | None) -> None:
    """Write ``direct_url.json`` anew, or remove it, and update RECORD.

    No file is changed in place: it may be a hard link into the installer's cache.
    """
    path, record = dist_info / "direct_url.json", dist_info / "RECORD"
    place = f"{dist_info.name}/{path.name}"
    kept = [entry for entry in entries(dist_info) if entry.path != place]
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text, encoding="utf-8")
        kept.append(entry_of(place, text.encode()))
    aside = record.with_name("RECORD.new")
    aside.write_text(text_of(kept), encoding="utf-8")
    os.replace(aside, record)  # noqa: PTH105


def _both(index: LayerError, client: LayerError) -> LayerError:
    """Return one error for a package that neither the index nor the client could give."""
    return LayerError(
        index.step,
        f"{index.problem}; and the client cannot give it: {client.problem}",
        advice=" ".join(filter(None, (index.advice, client.advice))),
        last_words=index.last_words,
        packages=index.packages,
    )
