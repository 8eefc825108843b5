"""A real conda channel, made on the spot from the interpreter that runs the tests and from its own distributions.

Nothing is downloaded. The packages have what those of real channels have: Python and compiled modules, modules for
every Python (noarch), entry points, two distributions in one package, libraries and programs with their prefix in text
and in binary files, activation scripts, and what they need of the machine (virtual packages).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import Distribution, distribution, distributions
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import locket
from clusters import surroundings, uv
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dask_pkgsync.model.record import Entry, entry_of, parse, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PLACEHOLDER = f"/opt/conda-build/work_{'placehold_' * 30}"[:255]
"""What stands for the prefix in the files of packages, as long as that of conda-build."""
SUBDIR = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
}[sys.platform, platform.machine()]
"""The platform of this machine, as channels name it."""
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
OF_MACHINE = ("__glibc >=2.17", "__unix") if sys.platform == "linux" else ("__unix",)
"""The virtual packages that the library `LIBFOO` needs."""

CONDA_NAMES = {"msgpack": "msgpack-python", "dask": "dask-core"}
"""Names of distributions whose conda package has another one."""
NEEDS = ("distributed",)
"""The distributions, with all that they need, of which the usual channel has a package."""
USUAL = ("python", "distributed", "libfoo", "twins", "greeter")
"""What the environment of a person in the tests is made of."""

_LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
    "__pycache__",
}
"""Directories of the standard library that no test needs."""
_OF_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")


@dataclass(frozen=True)
class Content:
    """A file, or a symbolic link, of a package."""

    data: bytes = b""
    mode: int = 0o644
    link: str = ""
    """The target of a symbolic link; empty for a file."""


@dataclass
class Package:
    """A conda package to be written."""

    name: str
    version: str
    build: str = "0"
    depends: tuple[str, ...] = ()
    files: dict[str, Content] = field(default_factory=dict)
    noarch: str = ""
    entry_points: tuple[str, ...] = ()
    suffix: str = ".conda"

    def add(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Add a file."""
        self.files[path] = Content(data.encode() if isinstance(data, str) else data, mode)

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-{self.build}{self.suffix}"

    @property
    def index(self) -> dict[str, Any]:
        """What ``info/index.json`` says."""
        system, _, machine = SUBDIR.partition("-")
        of_platform = {"arch": "x86_64" if machine == "64" else machine, "platform": system}
        number = self.build.rpartition("_")[2]
        return {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": int(number) if number.isdecimal() else 0,
            "depends": list(self.depends),
            "timestamp": 1_700_000_000_000,
            **({"noarch": self.noarch, "subdir": "noarch"} if self.noarch else {"subdir": SUBDIR, **of_platform}),
        }

    def info(self) -> dict[str, Content]:
        """Return the files that describe the package."""
        paths = [_path(name, content) for name, content in sorted(self.files.items())]
        texts: dict[str, str] = {
            "info/index.json": json.dumps(self.index),
            "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
            "info/files": "".join(f"{name}\n" for name in sorted(self.files)),
            "info/about.json": "{}",
        }
        if self.noarch == "python":
            noarch = {"type": "python", "entry_points": list(self.entry_points)}
            texts["info/link.json"] = json.dumps({"noarch": noarch, "package_metadata_version": 1})
        return {name: Content(text.encode()) for name, text in texts.items()}


def _path(name: str, content: Content) -> dict[str, Any]:
    if content.link:
        return {"_path": name, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(), "size_in_bytes": 0}
    entry: dict[str, Any] = {
        "_path": name,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(content.data).hexdigest(),
        "size_in_bytes": len(content.data),
    }
    if PLACEHOLDER.encode() in content.data:
        mode = "binary" if b"\0" in content.data else "text"
        entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": mode}
    return entry


def _tar(files: Mapping[str, Content], mode: str = "w") -> bytes:
    buffer = BytesIO()
    options: dict[str, Any] = {"compresslevel": 1} if mode.endswith("bz2") else {}
    with tarfile.open(fileobj=buffer, mode=mode, **options) as tar:  # type: ignore[call-overload]
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.mode, member.size = content.mode, len(content.data)
            if content.link:
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, content.link, 0o777
            tar.addfile(member, BytesIO(content.data))
    return buffer.getvalue()


_BLOCK = 128 << 10


def _zstd(data: bytes) -> bytes:
    """Return data as a Zstandard frame of raw blocks (RFC 8878): no Python before 3.14 has a compressor for it."""
    header = (0xFD2FB528).to_bytes(4, "little") + bytes([0b1100_0000, 0b0101_1000]) + len(data).to_bytes(8, "little")
    starts = range(0, len(data), _BLOCK) if data else range(1)
    blocks = (data[start : start + _BLOCK] for start in starts)
    last = starts[-1]
    framed = (
        (len(block) << 3 | (start == last)).to_bytes(3, "little") + block
        for start, block in zip(starts, blocks, strict=True)
    )
    return b"".join([header, *framed])


def write_package(package: Package, directory: Path) -> Path:
    """Write the archive of a package, as its suffix says, and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / package.filename
    if package.suffix == ".tar.bz2":
        path.write_bytes(_tar({**package.files, **package.info()}, "w:bz2"))
        return path
    stem = path.name.removesuffix(".conda")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name, content in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{stem}.tar.zst", _zstd(_tar(package.files))),
            (f"info-{stem}.tar.zst", _zstd(_tar(package.info()))),
        ):
            bundle.writestr(zipfile.ZipInfo(name), content)
    return path


def python_package() -> Package:
    """Return the interpreter below that of the tests, with its library, as a package."""
    prefix = Path(sys.base_prefix)
    package = Package("python", platform.python_version(), "h0_0_cpython", OF_MACHINE[:1])
    library = prefix / "lib" / f"python{PYTHON}"
    places = [prefix / "bin" / f"python{PYTHON}", *sorted((prefix / "lib").glob("libpython*.s*")), *_modules(library)]
    for path in places:
        name = path.relative_to(prefix).as_posix()
        if path.is_symlink():
            package.files[name] = Content(link=str(path.readlink()))
        else:
            package.add(name, _with_placeholder(path), path.stat().st_mode & 0o777)
    for name in ("python", "python3"):
        package.files[f"bin/{name}"] = Content(link=f"python{PYTHON}")
    package.add(f"lib/python{PYTHON}/site-packages/README.txt", "Here are the distributions.\n")
    return package


def stand_in_python() -> Package:
    """Return a package that takes the place of Python where nothing is run: it installs in no time."""
    package = Package("python", platform.python_version(), "h0_0_stand_in", OF_MACHINE[:1])
    package.add(f"bin/python{PYTHON}", f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n", 0o755)
    package.add(f"lib/python{PYTHON}/os.py", "#" * (1 << 20))
    package.add(f"lib/python{PYTHON}/site-packages/README.txt", "Here are the distributions.\n")
    return package


def _modules(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in _LEFT_OUT or path.name.startswith("config-"):
            continue
        if path.is_dir():
            yield from _modules(path)
        elif path.suffix not in (".a", ".pyc"):
            yield path


def _with_placeholder(path: Path) -> bytes:
    """Return a file, with the placeholder where Python notes where it was configured to be installed."""
    data = path.read_bytes()
    return data.replace(sys.base_prefix.encode(), PLACEHOLDER.encode()) if "_sysconfigdata" in path.name else data


def distribution_package(found: Distribution, needs: Iterable[str] | None = None) -> Package:
    """Return the conda package of an installed distribution."""
    name = canonicalize_name(found.metadata["Name"])
    pure = "Root-Is-Purelib: true" in (found.read_text("WHEEL") or "")
    build = "pyh0_0" if pure else f"py{PYTHON.replace('.', '')}h0_0"
    python = "python >=3.8" if pure else f"python {PYTHON}.*"
    depends = (python, *(needs if needs is not None else map(_match_spec, requirements(found))))
    package = Package(CONDA_NAMES.get(name, name), found.version, build, depends, noarch="python" if pure else "")
    package.entry_points = tuple(
        f"{one.name} = {one.value}" for one in found.entry_points.select(group="console_scripts")
    )
    _add_files(package, found)
    return package


def _add_files(package: Package, found: Distribution) -> None:
    """Add the files of a distribution as an installation for conda leaves them."""
    root = "site-packages" if package.noarch else f"lib/python{PYTHON}/site-packages"
    here = Path(str(found.locate_file("")))
    info = Path(str(found._path)).name  # type: ignore[attr-defined]  # it has no other name for that
    scripts = {f"../../../bin/{point.partition(' =')[0]}" for point in package.entry_points}
    kept: list[Entry] = []
    for entry in parse(found.read_text("RECORD") or ""):
        name = entry.path.rpartition("/")[2]
        if (
            entry.path.endswith(".pyc")
            or entry.path in scripts
            or (entry.path == f"{info}/{name}" and name in _OF_INSTALLER)
        ):
            continue
        kept.append(entry)
        source = Path(os.path.normpath(here / entry.path))
        mode = source.stat().st_mode & 0o777
        place = entry.path.removeprefix("../../../")
        if place == entry.path:
            package.add(f"{root}/{place}", source.read_bytes(), mode)
        else:
            place = f"python-scripts/{place[4:]}" if package.noarch and place.startswith("bin/") else place
            package.add(place, source.read_bytes(), mode)
    installer = entry_of(f"{info}/INSTALLER", b"conda")
    package.add(f"{root}/{installer.path}", "conda")
    package.add(f"{root}/{info}/RECORD", text_of([*kept, installer, Entry(f"{info}/RECORD")]))
    for point in () if package.noarch else package.entry_points:
        package.add(f"bin/{point.partition(' =')[0]}", _script(point), 0o755)


def _script(point: str) -> str:
    _, _, value = point.partition(" = ")
    module, _, function = value.partition(":")
    return (
        f"#!{PLACEHOLDER}/bin/python\nimport sys\n\nfrom {module} import {function.partition('.')[0]}\n\n"
        f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    )


def requirements(found: Distribution) -> list[Requirement]:
    """Return what a distribution needs here, without extras."""
    all_of_them = [Requirement(text) for text in found.requires or ()]
    return [one for one in all_of_them if one.marker is None or one.marker.evaluate({"extra": ""})]


def _match_spec(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return f"{CONDA_NAMES.get(name, name)} {requirement.specifier}".strip()


def needed(*names: str) -> dict[str, Distribution]:
    """Return distributions of this environment, with all that they need, by canonical name."""
    found: dict[str, Distribution] = {}
    left = [str(canonicalize_name(name)) for name in names]
    while left:
        name = left.pop()
        if name not in found:
            found[name] = distribution(name)
            left += [str(canonicalize_name(one.name)) for one in requirements(found[name])]
    return found


def library(version: str = "2.1", build: str = "h1_0", depends: tuple[str, ...] = OF_MACHINE) -> Package:
    """Return ``libfoo``: a library and a program that know their prefix, and activation scripts, all without Python."""
    package = Package("libfoo", version, build, depends, suffix=".tar.bz2")
    binary = b"\x7fELF made up\0" + f"{PLACEHOLDER}/share/foo\0".encode() + version.encode() + b"\0" + bytes(range(256))
    package.add(f"lib/libfoo.so.{version}", binary, 0o755)
    package.files["lib/libfoo.so"] = Content(link=f"libfoo.so.{version}")
    package.add("bin/foo", f"#!/bin/sh\necho {PLACEHOLDER} {version}\n", 0o755)
    package.add("etc/foo.conf", f"root = {PLACEHOLDER}/share\n")
    package.add("share/foo/data.txt", f"data of {version}\n")
    package.add("etc/conda/activate.d/foo.sh", 'export FOO_HOME="$CONDA_PREFIX/share/foo"\n')
    package.add("etc/conda/deactivate.d/foo.sh", "unset FOO_HOME\n")
    return package


def made_up_distribution(package: Package, name: str, version: str, text: str = "") -> None:
    """Add a distribution with one module to a noarch package."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"__version__ = {version!r}\n{text}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/INSTALLER": "conda",
    }
    record = [entry_of(path, content.encode()) for path, content in files.items()]
    files[f"{info}/RECORD"] = text_of([*record, Entry(f"{info}/RECORD")])
    for path, content in files.items():
        package.add(f"site-packages/{path}", content)


def twins() -> Package:
    """Return one package of two distributions."""
    package = Package("twins", "1.0", "pyh0_0", ("python >=3.8",), noarch="python")
    made_up_distribution(package, "twin-one", "1.0")
    made_up_distribution(package, "twin-two", "1.5")
    return package


def greeter(version: str = "1.0", build: str = "pyh0_0") -> Package:
    """Return a noarch package with a command."""
    package = Package("greeter", version, build, ("python >=3.8", "libfoo >=2"), noarch="python")
    made_up_distribution(package, "greeter", version, f"\ndef main():\n    print('hello from {version} {build}')\n")
    package.entry_points = ("greet = greeter:main",)
    return package


@dataclass(frozen=True)
class Channel:
    """A channel in a directory."""

    root: Path

    @property
    def url(self) -> str:
        return self.root.as_uri()

    def add(self, *packages: Package) -> None:
        """Write packages into it; `index` tells of them."""
        for package in packages:
            write_package(package, self.root / (SUBDIR if not package.noarch else "noarch"))

    def add_wheels(self, *pins: str) -> None:
        """Add packages of distributions that an index has, without what they need."""
        with tempfile.TemporaryDirectory() as directory:
            uv(["pip", "install", "--target", directory, "--no-deps", "--python", sys.executable, *pins])
            self.add(*map(distribution_package, distributions(path=[directory])))

    def index(self) -> None:
        """Write the index of its packages anew."""
        for subdir in ("noarch", SUBDIR):
            (self.root / subdir).mkdir(parents=True, exist_ok=True)
        call_rattler(
            "asyncio.run(rattler.index.index_fs(Path(argv[0]), write_zst=False, write_shards=False))", str(self.root)
        )

    def archive(self, name: str) -> Path:
        """Return the archive of a package, the first of its name."""
        return min(self.root.glob(f"*/{name}-[0-9]*"))


def call_rattler(code: str, *argv: str, env: Mapping[str, str] | None = None) -> str:
    """Run code with py-rattler in a process of its own, as it may crash when that ends; return what it printed."""
    program = (
        "import asyncio, os, sys\nfrom pathlib import Path\nimport rattler, rattler.index\nargv = sys.argv[1:]\n"
        f"{code}\nsys.stdout.flush()\nos._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv],
        capture_output=True,
        text=True,
        check=False,
        env=surroundings(**(env or {})),
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


_SOLVED = """
async def main(prefix, cache, channel, *specs):
    virtual = rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())
    specs = [rattler.MatchSpec(spec) for spec in specs]
    client = rattler.networking.Client.default_client(max_retries=0)
    gateway = rattler.Gateway(cache_dir=Path(cache) / "index", client=client)
    records = await rattler.solve([channel], specs, gateway=gateway, virtual_packages=virtual)
    await rattler.install(records, prefix, cache_dir=Path(cache) / "pkgs", client=client, show_progress=False)
asyncio.run(main(*argv))
"""


def make_prefix(
    channel: str, prefix: Path, specs: Iterable[str] = USUAL, cache: Path | None = None, **env: str
) -> Path:
    """Make a conda environment as a person does, from the URL of a channel: solved and installed.

    Parameters
    ----------
    channel : str
    prefix : Path
    specs : iterable of str
    cache : Path, optional
        The package cache, with the archives in ``pkgs``; by default one that is removed again.
    **env : str
        Variables of the installer, for example ``RATTLER_AUTH_FILE``.
    """
    with tempfile.TemporaryDirectory() as directory:
        call_rattler(_SOLVED, str(prefix), str(cache or directory), channel, *specs, env=env)
    return prefix


def usual_channel(root: Path) -> Channel:
    """Make the channel that the tests share."""
    channel = Channel(root)
    found = needed(*NEEDS)
    channel.add(python_package(), *map(distribution_package, found.values()))
    channel.add(library(), library("2.2", "h2_1"), twins(), greeter(), greeter("1.1"), greeter("1.0", "pyh1_1"))
    channel.index()
    return channel


def tiny_channel(root: Path) -> Channel:
    """Make a channel of packages that are installed in no time, and need no Python that runs."""
    channel = Channel(root)
    channel.add(stand_in_python(), library(), library("2.2", "h2_1"), twins(), greeter(), greeter("1.1"))
    channel.index()
    return channel


def shared_channel(directory: Path) -> Channel:
    """Return the usual channel below a directory that all processes of a test run share; the first one makes it."""
    root = directory / "conda-channel"
    with locket.lock_file(str(directory / "conda-channel.lock")):
        if not root.exists():
            aside = directory / "conda-channel-made"
            shutil.rmtree(aside, ignore_errors=True)
            usual_channel(aside)
            aside.rename(root)
    return Channel(root)


@dataclass
class Served:
    """A channel over HTTP."""

    url: str
    password: str = ""
    """``user:password`` without which nothing is answered; empty: everybody is answered."""
    asked: list[str] = field(default_factory=list)
    """The paths of all requests."""
    missing: set[str] = field(default_factory=set)
    """File names that are not found."""
    hanging: set[str] = field(default_factory=set)
    """File names that are never sent."""
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def with_password(self) -> str:
        """The URL with user and password, as a person may have configured it."""
        return self.url.replace("://", f"://{self.password}@") if self.password else self.url

    def auth_file(self, directory: Path) -> str:
        """Write what rattler reads passwords from (``RATTLER_AUTH_FILE``), and return its path."""
        user, _, password = self.password.partition(":")
        path = directory / "auth.json"
        host = self.url.partition("://")[2].partition("/")[0].partition(":")[0]
        path.write_text(json.dumps({host: {"BasicHTTP": {"username": user, "password": password}}}))
        return str(path)


class _Handler(SimpleHTTPRequestHandler):
    served: Served

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        expected = f"Basic {base64.b64encode(self.served.password.encode()).decode()}"
        if self.served.password and self.headers.get("Authorization", "") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.served.asked.append(self.path)
        if name in self.served.hanging:
            self.served.closing.wait()
        elif name in self.served.missing:
            self.send_error(404)
        else:
            with contextlib.suppress(OSError):
                super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(channel: Channel, password: str = "") -> Iterator[Served]:
    """Serve a channel on a free port of this machine."""
    served = Served("", password)
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(channel.root)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        served.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
