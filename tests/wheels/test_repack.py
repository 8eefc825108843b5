"""Installed distributions become wheels again, file by file the same."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from clusters import Venv, base_python, uv

from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.content import content_of
from dask_pkgsync.scanning.records import dist_infos
from dask_pkgsync.wheels.inspection import inspect
from dask_pkgsync.wheels.repack import repack

REAL = Path(__file__).with_name("real_distributions.txt")
"""Pure and compiled, with scripts, data, headers, namespaces and odd layouts; in versions that are known to be good."""

NOTES = ("/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json", "/uv_cache.json")


def venv_at(root: Path) -> Venv:
    """Make an empty virtual environment."""
    uv(["venv", "--python", base_python(), str(root)])
    return Venv(root)


def site(venv: Venv) -> Path:
    """Return its directory of distributions."""
    (found,) = venv.root.glob("lib/python*/site-packages")
    return found


def files(venv: Venv, *, scripts: bool) -> dict[str, tuple[str, bool]]:
    """Return digest and mode of every recorded file but what installers add."""
    found = {}
    for dist_info in dist_infos(site(venv)).values():
        for row in csv.reader((dist_info / "RECORD").read_text().splitlines()):
            path = site(venv) / row[0]
            if row[0].endswith((".pyc", *NOTES)) or (not scripts and "/bin/" in row[0]):
                continue
            content = b"" if "/bin/" in row[0] else path.read_bytes()  # scripts name their own interpreter
            found[os.path.normpath(row[0])] = hashlib.sha256(content).hexdigest(), os.access(path, os.X_OK)
    return found


@pytest.mark.slow
def test_real_distributions_come_out_as_they_were(tmp_path: Path) -> None:
    """More than sixty real distributions are identical after being packed and installed: bytes, modes, scripts.

    Each has one content digest, whether uv or pip has installed it, or we have rebuilt it.
    """
    first, second = venv_at(tmp_path / "first"), venv_at(tmp_path / "second")
    uv(["pip", "install", "--no-deps", "--python", first.python, "-r", str(REAL)])
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    packed = [repack(dist_info, wheels) for dist_info in dist_infos(site(first)).values()]
    assert len(packed) >= 60
    assert not any(one.differing for one in packed)
    for name, dist_info in dist_infos(site(first)).items():
        version = version_of(dist_info)
        (wheel,) = (one.path for one in packed if one.path.name.startswith(dist_info.name.removesuffix(".dist-info")))
        inspect(wheel, name=name, version=version)
    uv(["pip", "install", "--no-index", "--no-deps", "--python", second.python, *(str(one.path) for one in packed)])
    assert files(second, scripts=True) == files(first, scripts=True)
    assert len(files(first, scripts=True)) > 8000
    third = Venv(tmp_path / "third")
    subprocess.run([base_python(), "-m", "venv", str(third.root)], check=True)
    argv = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile", "-r", str(REAL)]
    subprocess.run([third.python, *argv], check=True)
    digests = contents(first)
    assert all(digests.values())
    assert contents(second) == digests
    assert digests.items() <= contents(third).items()  # which has pip as well
    said = subprocess.run([second.root / "bin" / "pygmentize", "-V"], capture_output=True, text=True, check=True)
    assert version_of(dist_infos(site(first))["pygments"]) in said.stdout


def contents(venv: Venv) -> dict[str, str]:
    """Return the content digest of each distribution."""
    return {name: content_of(str(dist_info)).digest for name, dist_info in dist_infos(site(venv)).items()}


def version_of(dist_info: Path) -> str:
    """Return the version in the name of a directory."""
    return dist_info.name.removesuffix(".dist-info").rpartition("-")[2]


def handmade(prefix: Path, **changes: str | None) -> Path:
    """Install a distribution by hand, with a script, data, a header and an entry point; return its dist-info."""
    root = prefix / "lib" / "python3.11" / "site-packages"
    info = "my_pkg-1.0.dist-info"
    texts = {
        "my_pkg/__init__.py": "x = 1\n",
        "my_pkg/__pycache__/__init__.cpython-311.pyc": "",
        "my_pkg/sourceless.pyc": "bytecode",
        "my_pkg/with, comma.txt": "odd",
        f"{info}/METADATA": "Name: my-pkg\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nBuild: 3\nTag: py2-none-any\nTag: py3-none-any\n",
        f"{info}/INSTALLER": "pip\n",
        f"{info}/entry_points.txt": "[console_scripts]\nmade = my_pkg:main\n",
        "../../../bin/made": "#!/venv/bin/python\n",
        "../../../bin/plain": "#!/venv/bin/python\nprint(1)\n",
        "../../../bin/long": "#!/bin/sh\n'''exec' \"/venv/a b/bin/python\" \"$0\" \"$@\"\n' '''\nprint(2)\n",
        "../../../bin/shell": "#!/bin/sh\necho\n",
        "../../../bin/own": "#!/usr/bin/env -S python3 -u\n",
        "../../../share/doc.txt": "doc",
        "../../../include/site/python3.11/my-pkg/my.h": "int x;",
    }
    texts.update({name: text for name, text in changes.items() if text is not None})
    rows = []
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if "/bin/" in name else 0o644)
        quoted = f'"{name}"' if "," in name else name
        rows.append(f"{quoted},,{len(text)}" if "__pycache__" in name else f"{quoted},{_hash(text)},{len(text)}")
    if f"{info}/RECORD" not in changes:
        (root / info / "RECORD").write_text("\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    for name, text in changes.items():
        if text is None:
            (root / name).unlink()
    return root / info


def _hash(text: str) -> str:
    import base64

    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_everything_has_its_place_in_the_wheel(tmp_path: Path) -> None:
    """Scripts, data and headers go where installers look for them; what installers make anew is left out."""
    packed = repack(handmade(tmp_path / "venv"), tmp_path)
    assert packed.path.name == "my_pkg-1.0-3-py2.py3-none-any.whl"
    assert packed.differing == ()
    with zipfile.ZipFile(packed.path) as bundle:
        names = bundle.namelist()
        assert names == [
            "my_pkg-1.0.data/data/share/doc.txt",
            "my_pkg-1.0.data/headers/my.h",
            "my_pkg-1.0.data/scripts/long",
            "my_pkg-1.0.data/scripts/own",
            "my_pkg-1.0.data/scripts/plain",
            "my_pkg-1.0.data/scripts/shell",
            "my_pkg/__init__.py",
            "my_pkg/sourceless.pyc",
            "my_pkg/with, comma.txt",
            "my_pkg-1.0.dist-info/METADATA",
            "my_pkg-1.0.dist-info/WHEEL",
            "my_pkg-1.0.dist-info/entry_points.txt",
            "my_pkg-1.0.dist-info/RECORD",
        ]
        assert bundle.read("my_pkg-1.0.data/scripts/plain") == b"#!python\nprint(1)\n"
        assert bundle.read("my_pkg-1.0.data/scripts/long") == b"#!python\nprint(2)\n"
        assert bundle.read("my_pkg-1.0.data/scripts/own") == b"#!/usr/bin/env -S python3 -u\n"
        assert bundle.read("my_pkg-1.0.data/scripts/shell") == b"#!/bin/sh\necho\n"
        assert bundle.getinfo("my_pkg-1.0.data/scripts/shell").external_attr >> 16 == 0o100755
        record = bundle.read("my_pkg-1.0.dist-info/RECORD").decode()
        assert f'"my_pkg/with, comma.txt",{_hash("odd")},3' in record
    inspect(packed.path, name="my-pkg", version="1.0")
    again = tmp_path / "again"
    again.mkdir()
    assert repack(handmade(tmp_path / "venv2"), again).path.read_bytes() == packed.path.read_bytes()


def test_files_that_were_changed_are_shipped_and_told(tmp_path: Path) -> None:
    """What the person changed after installing is what arrives, and is named."""
    dist_info = handmade(tmp_path / "venv")
    (dist_info.parent / "my_pkg" / "__init__.py").write_text("x = 2\n")
    packed = repack(dist_info, tmp_path)
    assert packed.differing == ("my_pkg/__init__.py",)
    with zipfile.ZipFile(packed.path) as bundle:
        assert bundle.read("my_pkg/__init__.py") == b"x = 2\n"


INFO = "my_pkg-1.0.dist-info"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({f"{INFO}/RECORD": ""}, "no RECORD"),
        ({f"{INFO}/WHEEL": None}, "not installed from a wheel"),
        ({f"{INFO}/WHEEL": "Wheel-Version: 1.0\n"}, "names no tag"),
        ({f"{INFO}/entry_points.txt": None}, "is gone"),
        ({f"{INFO}/direct_url.json": '{"url": "file:///src", "dir_info": {"editable": true}}'}, "editable"),
        ({"../../../../outside.txt": "x"}, "outside of"),
        ({f"{INFO}/INSTALLER": "conda\n", "my_pkg/core.so": ""}, "installed by conda"),
        ({f"{INFO}/INSTALLER": "conda\n", "../../libfoo.so.1.2": ""}, "installed by conda"),
        ({f"{INFO}/RECORD": "/etc/passwd,,\n"}, "absolute path"),
        ({f"{INFO}/RECORD": "my_pkg,,\n"}, "is gone"),
    ],
)
def test_what_cannot_be_packed_is_named_with_the_reason(
    changes: dict[str, str | None], reason: str, tmp_path: Path
) -> None:
    """The reason and the alternative are told, and nothing is left behind."""
    dist_info = handmade(tmp_path / "inner" / "venv", **changes)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(WheelError, match=reason) as caught:
        repack(dist_info, out)
    assert caught.value.package == "my_pkg 1.0"
    assert caught.value.advice
    assert not list(out.iterdir())


def test_pure_packages_of_conda_travel(tmp_path: Path) -> None:
    """Only compiled files are tied to the prefix of conda."""
    assert repack(handmade(tmp_path / "venv", **{f"{INFO}/INSTALLER": "conda\n"}), tmp_path).path.exists()
