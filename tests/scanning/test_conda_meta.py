"""A scan finds the conda packages of a prefix, whatever tool wrote their records, and what pip has put over them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.origin import FromConda, FromIndex
from dask_pkgsync.scanning.conda_meta import with_sizes
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from pathlib import Path

SITE = "lib/python3.11/site-packages"


class Prefix:
    """A conda prefix that is made by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "conda-meta").mkdir(parents=True)
        (root / SITE).mkdir(parents=True)

    def distribution(self, name: str, version: str, installer: str = "conda") -> list[dict[str, Any]]:
        """Install a distribution, and return the entries of its files for a record."""
        directory = self.root / SITE / f"{name}-{version}.dist-info"
        directory.mkdir()
        for file, text in (
            ("METADATA", f"Name: {name}\nVersion: {version}\n"),
            ("INSTALLER", f"{installer}\n"),
            ("RECORD", ""),
        ):
            (directory / file).write_text(text)
        return [
            entry(f"{SITE}/{directory.name}/{path.name}", path.read_bytes()) for path in sorted(directory.iterdir())
        ]

    def record(self, name: str, version: str, build: str, paths: list[dict[str, Any]], **more: Any) -> Path:
        """Write the record of a package, as conda does."""
        path = self.root / "conda-meta" / f"{name}-{version}-{build}.json"
        data = {
            "name": name,
            "version": version,
            "build": build,
            "build_number": 0,
            "subdir": "linux-64",
            "sha256": hashlib.sha256(path.name.encode()).hexdigest(),
            "url": f"https://conda.example/linux-64/{name}-{version}-{build}.conda",
            "files": [one["_path"] for one in paths],
            "paths_data": {"paths_version": 1, "paths": paths},
            **more,
        }
        path.write_text(json.dumps(data, indent=2, sort_keys=True))
        return path

    def scan(self) -> Environment:
        """Scan the prefix."""
        return scan_installed([str(self.root / SITE)])


def entry(path: str, content: bytes, **more: Any) -> dict[str, Any]:
    """Return an entry of ``paths_data``."""
    digest = hashlib.sha256(content).hexdigest()
    return {"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(content), **more}


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    """Return an empty prefix."""
    return Prefix(tmp_path / "prefix")


def test_a_distribution_names_the_package_that_it_belongs_to(prefix: Prefix) -> None:
    """Names need not be the same, and one package may hold several distributions."""
    both = [*prefix.distribution("msgpack", "1.2.4"), *prefix.distribution("msgpack_extra", "1.0")]
    prefix.record("msgpack-python", "1.2.4", "py311h0_0", both)
    environment = prefix.scan()
    assert environment.conda["msgpack-python"].distributions == ("msgpack", "msgpack-extra")
    assert {one.origin for one in environment.distributions.values()} == {FromConda("msgpack-python")}
    assert not environment.faults


def test_a_package_without_python_is_found(prefix: Prefix) -> None:
    """Libraries, compilers and the interpreter itself are packages as any other."""
    library = entry("lib/libfoo.so", b"12345", file_mode="binary", prefix_placeholder="/p" * 40)
    text = entry("etc/foo.conf", b"123", file_mode="text", prefix_placeholder="/p")
    depends = ["__glibc >=2.17,<3.0.a0", "libbar"]
    prefix.record("libfoo", "2.1", "h1_0", [library, text], depends=depends, size=77, build_number=3, noarch="generic")
    found = prefix.scan().conda["libfoo"]
    assert (found.version, found.build, found.build_number, found.noarch) == ("2.1", "h1_0", 3, "generic")
    assert (found.size, found.placeholder) == (77, 80)
    counted = with_sizes(prefix.scan(), [str(prefix.root / SITE)])
    assert counted == prefix.scan(), "sizes are counted for a sync, and tell no environments apart"
    assert counted.conda["libfoo"].installed_size == 8
    assert found.depends == tuple(depends)
    assert found.distributions == ()


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
@pytest.mark.parametrize("in_order", [True, False])
def test_it_does_not_matter_how_a_record_is_written(prefix: Prefix, indent: int | None, *, in_order: bool) -> None:
    """Keys in any order, with any indentation, give the same package."""
    paths = [*prefix.distribution("six", "1.17.0"), entry("x", b"1", file_mode="binary", prefix_placeholder="/long")]
    path = prefix.record("six", "1.17.0", "pyhd_0", paths, depends=["python"], channel="conda-forge")
    expected = prefix.scan()
    data = json.loads(path.read_text())
    keys = sorted(data) if in_order else sorted(data, reverse=True)
    path.write_text(json.dumps({key: data[key] for key in keys}, indent=indent))
    assert prefix.scan() == expected
    assert expected.conda["six"].placeholder == 5
    assert expected.distributions["six"].origin == FromConda("six")


@pytest.mark.parametrize("version", ["2.0", "1.26.4"])
def test_what_pip_has_installed_over_conda_wins(prefix: Prefix, version: str) -> None:
    """The record of a package that pip has replaced is a fault, and the package is not there any more."""
    paths = prefix.distribution("numpy", "1.26.4")
    prefix.record("numpy", "1.26.4", "py311_0", paths)
    prefix.record("libfoo", "1.0", "0", [entry("lib/libfoo.so", b"1")])
    for file in paths:
        (prefix.root / file["_path"]).unlink()
    (prefix.root / SITE / "numpy-1.26.4.dist-info").rmdir()
    prefix.distribution("numpy", version, "pip")
    environment = prefix.scan()
    assert environment.distributions["numpy"].version == version
    assert environment.distributions["numpy"].origin == FromIndex()
    assert set(environment.conda) == {"libfoo"}
    (fault,) = environment.faults
    assert (fault.kind, fault.name) == ("stale", "numpy")
    assert f"pip has installed numpy {version} over it" in fault.detail
    assert environment.faulty("numpy") is None, "the distribution itself is known for what it is"


def test_what_pip_has_removed_is_told(prefix: Prefix) -> None:
    """``pip uninstall`` leaves conda's record behind."""
    for file in (paths := prefix.distribution("six", "1.17.0")):
        (prefix.root / file["_path"]).unlink()
    (prefix.root / SITE / "six-1.17.0.dist-info").rmdir()
    prefix.record("six", "1.17.0", "0", paths)
    (fault,) = prefix.scan().faults
    assert fault.kind == "stale"
    assert "its files were removed" in fault.detail


def test_a_package_may_have_been_built_with_another_installer(prefix: Prefix) -> None:
    """Some builders leave INSTALLER as pip wrote it: the digest in the record tells that it is the package's own."""
    prefix.record("six", "1.17.0", "0", prefix.distribution("six", "1.17.0", "pip"))
    assert prefix.scan().distributions["six"].origin == FromConda("six")


def test_no_credential_of_a_channel_is_read(prefix: Prefix) -> None:
    """Neither user and password nor the token of a channel get into an environment."""
    secret = "https://user:s3cret@conda.example/t/tk-s3cret/private/linux-64/six-1.0-0.conda?token=s3cret"
    prefix.record("six", "1.0", "0", [], url=secret, channel="https://conda.example/t/tk-s3cret/private")
    found = prefix.scan()
    assert found.conda["six"].url == "https://conda.example/private/linux-64/six-1.0-0.conda"
    assert "s3cret" not in found.to_json()


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"name": "../x", "version": "1", "build": "0"}', "\xff"])
def test_a_record_that_cannot_be_read_is_a_fault(prefix: Prefix, text: str) -> None:
    """The other packages are found all the same."""
    prefix.record("libfoo", "1.0", "0", [])
    (prefix.root / "conda-meta" / "six-1.0-0.json").write_bytes(text.encode("latin-1"))
    environment = prefix.scan()
    assert set(environment.conda) == {"libfoo"}
    (fault,) = environment.faults
    assert (fault.kind, fault.name) == ("broken", "six")


def test_two_records_of_one_package_are_a_fault(prefix: Prefix) -> None:
    """A prefix in which an update was interrupted is told."""
    prefix.record("libfoo", "1.0", "0", [])
    prefix.record("libfoo", "1.1", "0", [])
    environment = prefix.scan()
    assert environment.conda["libfoo"].version == "1.0"
    assert [fault.kind for fault in environment.faults] == ["duplicate"]


def test_a_changed_record_is_read_again(prefix: Prefix) -> None:
    """A second scan remembers, and sees an update."""
    path = prefix.record("libfoo", "1.0", "0", [])
    assert prefix.scan() is prefix.scan()
    path.unlink()
    prefix.record("libfoo", "1.1", "0", [])
    assert prefix.scan().conda["libfoo"].version == "1.1"


def test_a_virtual_environment_beside_a_prefix_is_none_of_conda(tmp_path: Path) -> None:
    """Only what is importable from a prefix belongs to it."""
    prefix = Prefix(tmp_path / "prefix")
    prefix.record("libfoo", "1.0", "0", [])
    (tmp_path / "venv" / SITE).mkdir(parents=True)
    assert not scan_installed([str(tmp_path / "venv" / SITE)]).conda
    assert scan_installed([str(tmp_path / "venv" / SITE), str(prefix.root / SITE)]).conda


def test_an_environment_with_conda_packages_survives_json(prefix: Prefix) -> None:
    """An environment and its fingerprint are the same after ``to_json`` and ``from_json``."""
    prefix.record("libfoo", "1.0", "0", [], depends=["__cuda >=12"], md5="0" * 32)
    prefix.record("six", "1.17.0", "pyhd_0", prefix.distribution("six", "1.17.0"), noarch="python")
    environment = prefix.scan()
    again = Environment.from_json(environment.to_json())
    assert again == environment
    assert again.fingerprint == environment.fingerprint


def test_the_fingerprint_covers_builds(prefix: Prefix) -> None:
    """Another build of a library is another environment, and so is another archive under the same name."""
    path = prefix.record("libblas", "3.9", "mkl_0", [])
    fingerprints = {prefix.scan().fingerprint}
    path.unlink()
    path = prefix.record("libblas", "3.9", "openblas_0", [])
    fingerprints.add(prefix.scan().fingerprint)
    prefix.record("libblas", "3.9", "openblas_0", [], sha256="0" * 64)
    fingerprints.add(prefix.scan().fingerprint)
    assert len(fingerprints) == 3
