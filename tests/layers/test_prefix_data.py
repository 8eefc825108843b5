"""Data files below `sys.prefix` are found in a layer: its own, and those of the base that are not its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dask_pkgsync.layers.layer import Base, Layer
from dask_pkgsync.layers.prefix_data import below_prefix, data_files, link_data
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.record import recorded
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.records import dist_infos

LIB = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def write(prefix: Path, *paths: str) -> None:
    """Write files below a prefix, each with the name of the prefix in it."""
    for path in paths:
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(prefix.name)


def install(prefix: Path, name: str, *paths: str) -> Path:
    """Write a distribution with files below the prefix; return its dist-info directory."""
    write(prefix, *paths)
    dist_info = prefix / LIB / f"{name}-1.0.dist-info"
    dist_info.mkdir(parents=True)
    (dist_info / "METADATA").write_text("Name: x\n")
    (dist_info / "RECORD").write_text("\n".join(recorded(f"../../../{path}", b"x") for path in paths))
    return dist_info


def linked(tmp_path: Path, *, complete: bool = False) -> Path:
    """Link the data files of the base into the layer; return the layer's directory."""
    prefix = tmp_path / "base"
    write(prefix, "pyvenv.cfg")
    base = Base(prefix / "bin" / "python", (prefix / LIB,), Environment.of(this_interpreter(), ()))
    layer = Layer("layer", tmp_path / "layer", complete=complete, pins=())
    link_data(layer, base, dist_infos(layer.site_packages))
    return tmp_path / "layer"


def test_the_data_of_base_and_layer_are_both_found(tmp_path: Path) -> None:
    """Directories that both have are joined, the layer's files come first, and nothing of the base is changed."""
    write(tmp_path / "base", "share/proj/proj.db", "share/both/base.csv", "share/both/same.csv", "etc/x.conf")
    write(tmp_path / "base", "lib/libx.so", f"{LIB}/x.py", "bin/x", "include/x.h", ".hidden", "pyvenv.cfg")
    install(tmp_path / "layer", "own", "share/both/own.csv", "share/both/same.csv", "lib/libown.so")
    before = sorted((tmp_path / "base").rglob("*"))
    layer = linked(tmp_path)
    found = {
        str(path.relative_to(layer)): path.read_text()
        for path in [*layer.rglob("*"), *(layer / "share" / "proj").iterdir(), *(layer / "etc").iterdir()]
        if path.is_file() and "dist-info" not in str(path)
    }
    assert found == {
        "share/proj/proj.db": "base",
        "share/both/base.csv": "base",
        "share/both/same.csv": "layer",
        "share/both/own.csv": "layer",
        "etc/x.conf": "base",
        "lib/libx.so": "base",
        "lib/libown.so": "layer",
    }
    assert sorted((tmp_path / "base").rglob("*")) == before


@pytest.mark.parametrize("complete", [False, True])
def test_data_of_what_the_layer_replaces_are_not_found(tmp_path: Path, *, complete: bool) -> None:
    """A delta hides the data of distributions that it has itself; a complete layer those of all distributions."""
    install(tmp_path / "base", "replaced", "share/one/old.csv", "share/shared/old.csv", "share/old.csv")
    install(tmp_path / "base", "kept", "share/kept/table.csv", "share/shared/kept.csv")
    write(tmp_path / "base", "share/of-nobody/table.csv", "share/shared/of-nobody.csv")
    install(tmp_path / "layer", "replaced")
    share = linked(tmp_path, complete=complete) / "share"
    assert (share / "of-nobody" / "table.csv").is_file()
    assert (share / "shared" / "of-nobody.csv").is_file()
    assert not (share / "one").exists()
    assert not (share / "old.csv").exists()
    assert not (share / "shared" / "old.csv").exists()
    assert (share / "kept" / "table.csv").exists() is not complete
    assert (share / "shared" / "kept.csv").exists() is not complete


def test_a_base_that_links_to_itself_is_linked(tmp_path: Path) -> None:
    """A directory of the base that holds a link to itself, or that nobody may list, ends in links as well."""
    install(tmp_path / "base", "replaced", "share/old.csv")
    (tmp_path / "base" / "share" / "again").symlink_to(tmp_path / "base" / "share")
    (tmp_path / "base" / "share" / "dangling").symlink_to(tmp_path / "nowhere")
    install(tmp_path / "layer", "replaced")
    share = linked(tmp_path) / "share"
    assert sorted(path.name for path in share.iterdir()) == ["again", "dangling"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("../../../share/x.csv", "share/x.csv"),
        ("../../../lib/libx.so", "lib/libx.so"),
        ("../../../bin/x", "bin/x"),
        ("x/share/x.csv", ""),
        ("../../../lib/python3.11/x.py", ""),
        ("../../../../x", ""),
        ("../x.py", ""),
        ("/etc/x", ""),
    ],
)
def test_a_file_is_below_the_prefix_or_beside_the_modules(path: str, place: str) -> None:
    """Paths of RECORD are relative to the directory of distributions, which lies three levels below the prefix."""
    assert below_prefix(path) == place


def test_scripts_and_manuals_are_no_data(tmp_path: Path) -> None:
    """Of the files below the prefix only those count that a worker may read."""
    paths = ("bin/x", "share/man/man1/x.1", "share/jupyter/x.json", "include/x.h", "share/x/table.csv")
    dist_info = install(tmp_path, "x", *paths)
    assert {entry.path for entry in data_files(dist_info)} == {"../../../share/x/table.csv"}


def test_the_prefix_of_a_base_is_that_of_its_interpreter(tmp_path: Path) -> None:
    """In a virtual environment it is the environment, else it is where the interpreter really lies."""
    real, environment = tmp_path / "real" / "bin" / "python3", tmp_path / "venv" / "bin" / "python"
    write(tmp_path, "real/bin/python3", "venv/pyvenv.cfg", "venv/bin/x", "home/bin/x")
    environment.symlink_to(real)
    (tmp_path / "home" / "bin" / "python").symlink_to(real)
    nothing = Environment.of(this_interpreter(), ())
    assert Base(environment, (), nothing).prefix == tmp_path / "venv"
    assert Base(real, (), nothing).prefix == tmp_path / "real"
    assert Base(tmp_path / "home" / "bin" / "python", (), nothing).prefix == (tmp_path / "real").resolve()
    assert Base(Path(sys.executable), (), nothing).prefix == Path(sys.prefix)
