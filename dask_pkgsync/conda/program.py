"""The program that installs conda packages with py-rattler, in a process of its own.

It imports nothing but the standard library and py-rattler: the text of this file is run by an isolated interpreter,
also where dask-pkgsync is only there as an archive. It gets a request, a JSON file, and writes its answer into another
one (see `conda.installer`). Exit statuses mean nothing: py-rattler 0.28 may crash when its process ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

DOWNLOADS = 16
"""Archives that are downloaded at once."""
PAUSES = (0.5, 2.0)
"""Seconds before each further attempt to download an archive, after a failure that may pass."""
LINKS = "allow-ref-links = false"
"""How files get from the package cache into a prefix: by hard links, which share memory between the processes of all
prefixes, and show that a file was verified before; where there are none, by copies."""
CONNECT = 10.0
"""Seconds in which the host of a channel must accept a connection: without a network it might take minutes."""
_PORTS = {"http": 80, "https": 443}
_FULL = re.compile(r"no space left|os error 28\b|quota exceeded", re.IGNORECASE)
"""Matches errors of a file system that is full: then no other source can help."""
_URL = re.compile(r" for url \(.*?\)")
"""Matches the URL in an error; packages that fail for one reason are told together."""
_FINAL = re.compile(r"\((4\d\d|501) ")
"""Matches errors of a server that will not pass: the archive is not there, or nobody may have it."""


class Program:
    """One run of the program.

    Parameters
    ----------
    request : dict
        ``work``, ``cache``, ``archives``, ``prefix`` and ``final`` are directories, and ``packages`` is what to
        install. Each has its ``record`` as conda writes it, the ``places`` in which its archive may be, relative to
        ``archives``, the ``url`` of the archive (empty if the channel may not be asked), and its ``installed-size`` in
        bytes. With ``specs`` and ``channels``, nothing is installed: the packages are what has to stay as it is. With
        ``lock``, the path of a lock file, one ``environment`` of it is read.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        import rattler
        from rattler.package_cache import PackageCache, ValidationMode

        self.rattler, self.request = rattler, request
        self.archives = Path(request["archives"])
        # An archive has an origin of its own for each digest, and the origin is a part of the key: so the same name,
        # version and build may be there with several contents, as those that are rebuilt are not the same archives.
        self.cache = PackageCache.new_layered([request["cache"]], True, ValidationMode.skip())  # noqa: FBT003
        self.answer: dict[str, Any] = {}
        self.records: dict[tuple[str, str], Any] = {}
        """What `record` has returned, by the name of the package and its place."""

    async def run(self) -> None:
        """Check, get what is missing, and install; whatever stands in the way is in the answer."""
        self.answer |= {"subdir": str(self.rattler.Subdir.current()), "virtual": self.virtual()}
        self.answer["unmet"] = self.unmet()
        foreign = {one["record"]["subdir"] for one in self.request["packages"]} - {"noarch", self.answer["subdir"]}
        if self.answer["unmet"] or foreign:
            return
        index = await self.cache.index()
        packages = {one["record"]["name"]: one for one in self.request["packages"]}
        unpacked = {name: self.unpacked(one, index) for name, one in packages.items()}
        here = {name: unpacked[name] or self.archive(one) for name, one in packages.items()}
        wanted = [one for name, one in packages.items() if not here[name]]
        self.answer["room"] = self.room(unpacked, here)
        needed, free = self.answer["room"]
        if needed > free:
            return
        self.answer["missing"] = await self.download(wanted)
        if self.answer["missing"]:
            return
        records = [self.record(one["record"], here[name] or one["places"][0]) for name, one in packages.items()]
        from rattler.config import Config

        await self.rattler.install(
            records,
            self.request["prefix"],
            package_cache=self.cache,
            config=Config.from_toml(LINKS),
            installed_packages=[],
            execute_link_scripts=False,
            show_progress=False,
            alternative_target_prefix=self.request["final"],
        )
        self.answer["installed"] = True

    async def solve(self) -> None:
        """Find what has to be added to the packages so that they meet further specs, while all of them stay."""
        rattler = self.rattler
        stays = [self.record(one["record"], one["places"][0]) for one in self.request["packages"]]
        client, _ = self.client()
        gateway = rattler.Gateway(cache_dir=Path(self.request["cache"]) / "index", client=client)
        held = [f"{one.name.normalized} =={one.version} {one.build}" for one in stays]
        solved = await rattler.solve(
            [rattler.Channel(channel) for channel in self.request["channels"]],
            [rattler.MatchSpec(spec) for spec in (*held, *self.request["specs"])],
            gateway=gateway,
            pinned_packages=stays,
            virtual_packages=rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env()),
            channel_priority=rattler.ChannelPriority.Disabled,
        )
        names = {one.name.normalized for one in stays}
        self.answer["solved"] = [self.described(one) for one in solved if one.name.normalized not in names]

    def described(self, record: Any) -> dict[str, Any]:
        """Return a record of a channel as conda writes it."""
        kind = record.noarch
        noarch = {"noarch": "python" if kind.python else "generic"} if kind and not kind.none else {}
        digests = {name: value.hex() for name in ("sha256", "md5") if (value := getattr(record, name))}
        return {
            "name": record.name.normalized,
            "version": str(record.version),
            "build": str(record.build),
            "build_number": record.build_number,
            "subdir": str(record.subdir),
            "channel": str(record.channel or ""),
            "url": str(record.url),
            "size": record.size or 0,
            "depends": [str(spec) for spec in record.depends],
            "constrains": [str(spec) for spec in record.constrains],
            **noarch,
            **digests,
        }

    def locked(self) -> None:
        """Read a lock file of pixi or conda-lock: the packages of one of its environments for this platform."""
        environments = dict(self.rattler.LockFile.from_path(Path(self.request["lock"])).environments())
        subdir = str(self.rattler.Subdir.current())
        self.answer |= {"subdir": subdir, "environments": sorted(environments)}
        if (chosen := environments.get(self.request["environment"])) is None:
            return
        records, pypi = chosen.conda_repodata_records(), chosen.pypi_packages()
        self.answer["platforms"] = sorted({*records, *pypi})
        self.answer["conda"] = [self.described(record) for record in records.get(subdir, [])]
        self.answer["pypi"] = [
            {"name": one.name, "version": str(one.version), "sha256": sha256_of(one)} for one in pypi.get(subdir, [])
        ]

    def virtual(self) -> dict[str, list[str]]:
        """Return version and build of each virtual package of this machine, by name."""
        found = self.rattler.VirtualPackage.detect(self.rattler.VirtualPackageOverrides.from_env())
        generic = [one.into_generic() for one in found]
        return {one.name.normalized: [str(one.version), str(one.build_string)] for one in generic}

    def unmet(self) -> list[list[str]]:
        """Return name and requirement of each package whose requirements on the machine are not met."""
        machine = {
            name: self.record(
                {"name": name, "version": version, "build": build, "build_number": 0, "subdir": "noarch"}, "machine"
            )
            for name, (version, build) in self.answer["virtual"].items()
        }
        unmet = []
        for package in self.request["packages"]:
            record = package["record"]
            for kind in ("depends", "constrains"):
                for spec in record.get(kind, ()):
                    name = re.match(r"__[a-z0-9_-]*", spec)
                    one = machine.get(name.group()) if name else None
                    if name and (not self.rattler.MatchSpec(spec).matches(one) if one else kind == "depends"):
                        unmet.append([record["name"], spec])
        return unmet

    def record(self, record: dict[str, Any], place: str) -> Any:
        """Return a record as py-rattler has it, of a package whose archive is in this place.

        It is read from a file, as the format of records is the same in all releases of py-rattler.
        """
        if (known := self.records.get((record["name"], place))) is not None:
            return known
        name = f"{record['name']}-{record['version']}-{record['build']}.conda"
        key, _, filename = place.rpartition("/")
        known = {"depends": [], **record, "fn": filename if key else name, "url": (self.archives / place).as_uri()}
        if key != record.get("sha256"):  # it is another archive than the recorded one, or the record has no such digest
            known = {field: value for field, value in known.items() if field not in ("sha256", "md5", "size")}
            known |= {"sha256": key} if re.fullmatch(r"[0-9a-f]{64}", key) else {}
        path = (
            Path(self.request["work"]) / f"record-{len(self.records)}.json"
        )  # to truncate a file may wait for the disk
        path.write_text(json.dumps({**known, "files": [], "paths_data": {"paths_version": 1, "paths": []}}))
        return self.records.setdefault((record["name"], place), self.rattler.PrefixRecord.from_path(path))

    def unpacked(self, package: dict[str, Any], index: Any) -> str:
        """Return the place of the archive that is unpacked in the cache; empty if there is none."""
        places: list[str] = package["places"]
        return next((place for place in places if index.contains_record(self.record(package["record"], place))), "")

    def archive(self, package: dict[str, Any]) -> str:
        """Return the place in which there is an archive of a package; empty if there is none."""
        return next(filter(self.is_intact, package["places"]), "")

    def is_intact(self, place: str) -> bool:
        """Whether an archive is there whose name is its digest; a damaged one is removed."""
        path, key = self.archives / place, place.partition("/")[0]
        if not path.exists():
            return False
        algorithm = {64: "sha256", 32: "md5"}[len(key)]
        try:
            wrong = differs(path, {algorithm: key})
        except OSError:  # another process has unpacked it, or its disk is damaged
            return False
        if wrong:
            path.unlink(missing_ok=True)
        return not wrong

    def room(self, unpacked: dict[str, str], here: dict[str, str]) -> list[int]:
        """Return the bytes that are needed on the disk, and those that are free."""
        needed = 0
        for package in self.request["packages"]:
            name = package["record"]["name"]
            if not unpacked[name]:
                needed += package["installed-size"] + (0 if here[name] else package["record"].get("size", 0))
        return [needed, shutil.disk_usage(self.request["cache"]).free]

    async def download(self, packages: list[dict[str, Any]]) -> dict[str, str]:
        """Get the archives of packages from their channels; return why that failed, by the name of the package."""
        if not packages:
            return {}
        client, is_plain = self.client()
        hosts = {host_of(package["url"]) for package in packages} if is_plain else set()
        unreachable = dict(zip(hosts, await asyncio.gather(*map(why_unreachable, hosts))))  # noqa: B905
        turns = asyncio.Semaphore(DOWNLOADS)

        async def one(package: dict[str, Any]) -> str:
            async with turns:
                return unreachable.get(host_of(package["url"])) or await self.download_one(package, client)

        reasons = await asyncio.gather(*map(one, packages))
        return {package["record"]["name"]: why for package, why in zip(packages, reasons) if why}  # noqa: B905

    def client(self) -> tuple[Any, bool]:
        """Return a client that has what this user has configured, and whether it asks the hosts of URLs themselves."""
        from rattler.config import Config
        from rattler.networking import Client

        config = Config.load_from_default_locations("rattler")  # mirrors, proxies, certificates, where credentials are
        return Client.from_config(config, max_retries=0), not config.loaded_from

    async def download_one(self, package: dict[str, Any], client: Any) -> str:
        """Get one archive; return why that failed, empty if it did not."""
        url, record = package["url"], package["record"]
        if not url:
            return "the channel was not asked"
        path = self.archives / package["places"][0]
        aside = self.archives / f"{os.getpid()}-{path.parent.name}-{path.name}"  # others may remove the directory
        try:
            for pause in (*PAUSES, None):
                wrong = await fetched(client, url, aside)
                if not wrong or pause is None or url.startswith("file:") or _FINAL.search(wrong):
                    break
                await asyncio.sleep(pause)
            wrong = wrong or await asyncio.to_thread(differs, aside, record)
            if not wrong:
                put(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        if _FULL.search(wrong):
            raise OSError(wrong)
        return wrong


def put(aside: Path, path: Path) -> None:
    """Rename an archive to its place, whose directory another process may remove that has unpacked the same archive."""
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            aside.replace(path)
        except FileNotFoundError:
            if not aside.exists():
                raise
        else:
            return


def sha256_of(package: Any) -> str:
    """Return the digest of a locked package of pip; empty if the lock file has none."""
    try:
        digest = package.hashes.sha256
    except AttributeError:  # py-rattler 0.28, of a package without hashes
        return ""
    return digest.hex() if digest else ""


def host_of(url: str) -> tuple[str, int]:
    """Return host and port of a URL that is asked without a proxy; an empty host for all others."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    place = urlsplit(url)
    host, proxies = place.hostname or "", getproxies()
    if place.scheme not in _PORTS or ((place.scheme in proxies or "all" in proxies) and not proxy_bypass(host)):
        return "", 0
    return host, place.port or _PORTS[place.scheme]


async def why_unreachable(place: tuple[str, int]) -> str:
    """Return why there is no connection to a host and port; empty if there is one."""
    host, port = place
    if not host:
        return ""
    try:
        connecting = asyncio.open_connection(host, port, happy_eyeballs_delay=0.25)
        _, writer = await asyncio.wait_for(connecting, CONNECT)
    except asyncio.TimeoutError:
        return f"{host}:{port} does not accept a connection within {CONNECT:g} s"
    except OSError as error:
        return f"{host}:{port} cannot be reached: {error}"
    writer.close()
    return ""


async def fetched(client: Any, url: str, path: Path) -> str:
    """Fetch an archive into a file; return why that failed, empty if it did not."""
    try:
        if url.startswith("file:"):
            from urllib.request import url2pathname

            await asyncio.to_thread(shutil.copyfile, url2pathname(url[len("file://") :]), path)
        else:
            from rattler.package_streaming import download_to_path

            await download_to_path(client, url, path)
    except Exception as error:  # noqa: BLE001  # py-rattler raises many kinds; one package fails, not the program
        return _URL.sub("", str(error)) or type(error).__name__
    return ""


def differs(path: Path, record: dict[str, Any]) -> str:
    """Return how an archive differs from its record; empty if it does not, or nothing is recorded."""
    for algorithm in ("sha256", "md5"):
        expected = record.get(algorithm)
        if expected:
            digest = hashlib.new(algorithm, usedforsecurity=False)
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            found = digest.hexdigest()
            return "" if found == expected else f"its {algorithm} is {found}, and not the recorded {expected}"
    return ""


def main(request: str, answer: str) -> None:
    """Answer a request."""
    asked = json.loads(Path(request).read_text())
    sys.path.append(asked["tool"])
    program = Program(asked)
    try:
        if "lock" in asked:
            program.locked()
        else:
            asyncio.run(program.solve() if "specs" in asked else program.run())
    except Exception as error:  # noqa: BLE001  # whoever asked tells of it
        program.answer["failed"] = str(error) or type(error).__name__
    aside = Path(f"{answer}.new")
    aside.write_text(json.dumps(program.answer))
    aside.replace(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)
