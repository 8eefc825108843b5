"""Indexes are read as uv and pip define it, and secrets in them stay here."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import dask
import pytest

from dask_pkgsync import PackageSync, PolicyError
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.indexes import OWN, Indexes, indexes_from_wire, indexes_to_wire
from dask_pkgsync.model.target import target_to_wire
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process import tools
from dask_pkgsync.process.tools import indexes_for
from dask_pkgsync.scanning.configured_indexes import configured_indexes, for_nodes

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, THREE = (f"https://{name}.example.org/simple" for name in ("one", "two", "three"))


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that reads what is configured by files below a home directory, and by variables."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))

    def read(files: dict[str, str] | None = None, **environ: str) -> Indexes:
        for name, text in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("HOME", str(tmp_path)))
        (tmp_path / "work" / "inner").mkdir(parents=True, exist_ok=True)
        fixed = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}
        replaced = {name: value.replace("HOME", str(tmp_path)) for name, value in environ.items()}
        return configured_indexes(tmp_path / "work" / "inner", {**fixed, **replaced})

    return read


def test_nothing_configured_is_nothing_said(read: Any) -> None:
    """Then installers look where they look by themselves."""
    assert not read().configured


UV_TOML = f"""
index-url = "{ONE}"
extra-index-url = ["{TWO}"]
find-links = ["/wheels"]
"""
UV_TABLES = f"""
[[tool.uv.index]]
url = "{ONE}"
default = true
[[tool.uv.index]]
name = "second"
url = "{TWO}"
[[tool.uv.index]]
name = "only-when-named"
url = "{THREE}"
explicit = true
[tool.uv]
no-index = false
"""


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {"UV_DEFAULT_INDEX": ONE}, Indexes(ONE)),
        ({}, {"UV_INDEX_URL": ONE, "UV_EXTRA_INDEX_URL": f"{TWO} {THREE}"}, Indexes(ONE, (TWO, THREE))),
        ({}, {"UV_DEFAULT_INDEX": ONE, "UV_INDEX_URL": TWO}, Indexes(ONE)),
        ({}, {"UV_INDEX": f"mine={ONE} {TWO}"}, Indexes(extra=(ONE, TWO))),
        ({}, {"UV_FIND_LINKS": "/a, https://b.example.org/"}, Indexes(find_links=("/a", "https://b.example.org/"))),
        ({}, {"UV_NO_INDEX": "1"}, Indexes(no_index=True)),
        ({"work/uv.toml": UV_TOML}, {}, Indexes(ONE, (TWO,), ("/wheels",))),
        ({"work/uv.toml": UV_TOML}, {"UV_NO_CONFIG": "1"}, OWN),
        ({"work/uv.toml": UV_TOML}, {"UV_NO_CONFIG": "0"}, Indexes(ONE, (TWO,), ("/wheels",))),
        ({"work/uv.toml": "", "work/pyproject.toml": UV_TABLES}, {}, OWN),
        ({"work/uv.toml": f'[pip]\nindex-url = "{THREE}"\n'}, {}, Indexes(THREE)),
        ({"work/uv.toml": "index = 5\nextra-index-url = 5\nfind-links = 'abc'\nindex-url = 5\nno-index = 5"}, {}, OWN),
        ({"work/pyproject.toml": "tool = 5"}, {}, OWN),
        ({"xdg/uv/uv.toml": "", "work/pyproject.toml": "[tool.other]"}, {}, OWN),
        (
            {"work/uv.toml": f'extra-index-url = ["{TWO}"]', ".config/uv/uv.toml": f'extra-index-url = ["{THREE}"]'},
            {"UV_INDEX": ONE, "UV_EXTRA_INDEX_URL": TWO},
            Indexes(extra=(ONE, TWO, THREE)),
        ),
        (
            {"work/uv.toml": '[[index]]\nname = "mine"\nurl = "https://old@one.example.org/simple"'},
            {"UV_INDEX_MINE_USERNAME": "new"},
            Indexes(extra=("https://old@one.example.org/simple",)),
        ),
        ({"work/uv.toml": UV_TOML}, {"UV_DEFAULT_INDEX": THREE}, Indexes(THREE, (TWO,), ("/wheels",))),
        ({"work/pyproject.toml": UV_TABLES}, {}, Indexes(ONE, (TWO,))),
        ({".config/uv/uv.toml": UV_TOML}, {}, Indexes(ONE, (TWO,), ("/wheels",))),
        ({"xdg/uv/uv.toml": UV_TOML}, {}, Indexes(ONE, (TWO,), ("/wheels",))),
        ({"other.toml": UV_TOML}, {"UV_CONFIG_FILE": "HOME/other.toml"}, Indexes(ONE, (TWO,), ("/wheels",))),
        (
            {"work/pyproject.toml": UV_TABLES},
            {"UV_INDEX_SECOND_USERNAME": "me", "UV_INDEX_SECOND_PASSWORD": "p@ss"},
            Indexes(ONE, ("https://me:p%40ss@two.example.org/simple",)),
        ),
        ({"work/uv.toml": "not = [toml"}, {}, OWN),
        ({}, {"PIP_INDEX_URL": ONE}, Indexes(ONE, equal=True)),
        ({}, {"UV_DEFAULT_INDEX": ONE, "PIP_INDEX_URL": TWO}, Indexes(ONE)),
        (
            {".config/pip/pip.conf": f"[global]\nindex-url = {ONE}\nextra-index-url =\n    {TWO}\n    {THREE}\n"},
            {},
            Indexes(ONE, (TWO, THREE), equal=True),
        ),
        (
            {".config/pip/pip.conf": f"[global]\nindex-url = {ONE}\n[install]\nfind_links = /a /b\nno-index = yes\n"},
            {},
            Indexes(ONE, (), ("/a", "/b"), no_index=True, equal=True),
        ),
        (
            {
                "xdg/pip/pip.conf": f"[global]\nindex-url = {ONE}\nextra-index-url = {THREE}\n",
                "prefix/pip.conf": f"[global]\nindex-url = {TWO}\n",
            },
            {},
            Indexes(TWO, (THREE,), equal=True),
        ),
        ({".pip/pip.conf": f"[global]\nindex-url = {ONE}\n"}, {"PIP_INDEX_URL": TWO}, Indexes(TWO, equal=True)),
        ({".pip/pip.conf": f"[global]\nindex-url = {ONE}\n"}, {"PIP_CONFIG_FILE": "/dev/null"}, OWN),
        (
            {".pip/pip.conf": f"[global]\nindex-url = {ONE}\n", "mine": f"[global]\nindex-url = {TWO}\n"},
            {"PIP_CONFIG_FILE": "HOME/mine"},
            Indexes(TWO, equal=True),
        ),
        (
            {".pip/pip.conf": f"[global]\nextra-index-url = {THREE}\n", "mine": f"[global]\nindex-url = {TWO}\n"},
            {"PIP_CONFIG_FILE": "HOME/mine"},
            Indexes(TWO, equal=True),
        ),
        (
            {
                "xdg/pip/pip.conf": f"[install]\nindex-url = {ONE}\n",
                ".pip/pip.conf": f"[global]\nindex-url = {TWO}\n",
            },
            {},
            Indexes(ONE, equal=True),
        ),
        ({".pip/pip.conf": "no section"}, {}, OWN),
        ({".pip/pip.conf": "[global]\ntimeout = 5\n"}, {}, OWN),
    ],
)
def test_what_is_configured_is_found(
    files: dict[str, str], environ: dict[str, str], expected: Indexes, read: Any
) -> None:
    """Variables before files, the nearest file before others, uv before pip, later files of pip before earlier ones."""
    assert read(files, **environ) == expected


def test_a_file_that_cannot_be_read_is_named_without_its_content(read: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It may hold passwords."""
    with caplog.at_level(logging.WARNING, "dask_pkgsync"):
        read({"work/uv.toml": "secret = [hunter2", ".pip/pip.conf": "hunter2"})
    assert "uv.toml could not be read" in caplog.text
    assert "pip.conf could not be read" in caplog.text
    assert "hunter2" not in caplog.text


def test_secrets_and_places_of_this_machine_stay_here() -> None:
    """Nodes get what they can use: no index that needs credentials, no path; unless credentials are to travel."""
    secret = "https://me:hunter2@private.example.org/simple"
    token = "https://private.example.org/simple?token=hunter2"
    odd = [
        "https://private.example.org/simple#token=hunter2",
        "https://me:12/hunter2@private.example.org/simple",
        "https://me:12#hunter2@private.example.org/simple",
    ]
    assert for_nodes(Indexes(odd[0], tuple(odd))) == OWN
    indexes = Indexes(secret, (ONE, token, "file:///here"), ("/wheels", TWO, secret), equal=True)
    assert for_nodes(indexes) == Indexes("", (ONE,), (TWO,), equal=True)
    assert "hunter2" not in repr(for_nodes(indexes))
    assert for_nodes(indexes, with_credentials=True) == Indexes(secret, (ONE, token), (TWO, secret), equal=True)
    assert for_nodes(Indexes(find_links=("/wheels",), equal=True)) == OWN


def test_no_secret_is_in_what_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a variable nor in a file; unless the person says so."""
    monkeypatch.setenv("UV_INDEX", f"https://me:hunter2@private.example.org/simple {ONE}")
    target = target_to_wire(PackageSync().target)
    assert "hunter2" not in repr(target)
    assert target["indexes"]["extra"] == [ONE]
    with dask.config.set({"pkgsync.send-credentials": True}):
        assert "hunter2" in repr(target_to_wire(PackageSync().target))


def test_our_own_configuration_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a client and on a node alike; nonsense is an error that names the key and repeats no secret."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", TWO)
    with dask.config.set({"pkgsync.index-url": ONE, "pkgsync.extra-index-urls": [THREE]}):
        target = PackageSync().target
        assert target.indexes == Indexes(ONE, (THREE,))
        assert indexes_for(target, node_settings()) == Indexes(ONE, (THREE,))
    assert indexes_for(target, node_settings()) == Indexes(TWO)  # what the node is configured with
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.setattr(tools, "configured_indexes", Indexes)
    assert indexes_for(target, node_settings()) == Indexes(ONE, (THREE,))  # what the client is configured with
    for key, value, expected in (
        ("index-url", "ftp://me:hunter2@host", "pkgsync.default: expected the URL of an index"),
        ("find-links", ["here"], "pkgsync.find-links"),
        ("send-credentials", "yes", "send-credentials: expected true or false"),
    ):
        with dask.config.set({f"pkgsync.{key}": value}), pytest.raises(PolicyError, match=expected) as caught:
            PackageSync()
        assert "hunter2" not in str(caught.value)


def test_indexes_are_checked_on_the_wire() -> None:
    """Only URLs get through: nothing that an installer could take for an option."""
    indexes = Indexes(ONE, (TWO,), (THREE,), no_index=True, equal=True)
    assert indexes_from_wire(indexes_to_wire(indexes)) == indexes
    good = indexes_to_wire(indexes)
    for change in (
        {"default": "--index-url"},
        {"default": "ssh://x"},
        {"extra": ["https://x y"]},
        {"extra": [ONE] * 51},
        {"find-links": ["relative/path"]},
        {"no-index": "yes"},
    ):
        with pytest.raises(MessageError):
            indexes_from_wire({**good, **change})
    assert indexes_from_wire({**good, "more": 1}) == indexes  # of another release
