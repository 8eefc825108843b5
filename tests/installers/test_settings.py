"""Of a machine's settings, those that say where from and whom to trust reach an installer, and no others."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from package_index import Index, authority, command_lines, serving
from uv import find_uv_bin

from dask_pkgsync.installers.find import find_pip
from dask_pkgsync.installers.passwords import without_passwords
from dask_pkgsync.installers.pip import Pip
from dask_pkgsync.installers.pip import index_options as pip_options
from dask_pkgsync.installers.pip import index_variables as pip_variables
from dask_pkgsync.installers.settings import build_environment, installer_environment
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.installers.uv import index_options as uv_options
from dask_pkgsync.installers.uv import index_variables as uv_variables
from dask_pkgsync.layers.environment import make_environment
from dask_pkgsync.model.indexes import OWN, Indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.installers import Installer

OTHERS = (
    *(
        "UV_REQUIRE_HASHES",
        "UV_CONSTRAINT",
        "UV_OVERRIDE",
        "UV_EXCLUDE",
        "UV_NO_BINARY",
        "UV_NO_BUILD",
        "UV_RESOLUTION",
    ),
    *("UV_PRERELEASE", "UV_LINK_MODE", "UV_NO_CACHE", "UV_PYTHON", "UV_PROJECT", "UV_TORCH_BACKEND", "UV_NO_CONFIG"),
    *("PIP_CONSTRAINT", "PIP_REQUIRE_HASHES", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_TARGET", "PIP_PREFIX"),
    *("PIP_USER", "PIP_LOG", "PIP_REQUIREMENT", "PIP_REQUIRE_VIRTUALENV", "PIP_UPLOADED_PRIOR_TO", "UV_EXCLUDE_NEWER"),
    *("GIT_DIR", "GIT_TRACE", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_CONFIG_FILE", "UV_CONFIG_FILE"),
)
"""Settings that say what is installed, where to, or how."""
REACHING = (
    *("UV_KEYRING_PROVIDER", "UV_INDEX_MINE_PASSWORD", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT"),
    *("PIP_CERT", "PIP_TRUSTED_HOST", "PIP_RETRIES", "PIP_PROXY", "SSL_CERT_FILE", "HTTPS_PROXY", "NETRC", "CC"),
    *("GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "HOME", "PATH"),
)
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set all of these variables to the same value."""
    for name in (*OTHERS, *REACHING, *INDEXES):
        monkeypatch.setenv(name, "planted")
    monkeypatch.setenv("PIP_USE_FEATURE", "fast-deps truststore")


@pytest.mark.usefixtures("planted")
def test_only_where_from_and_whom_to_trust_reaches_an_installer(tmp_path: Path) -> None:
    """Settings that say what is installed, or where to, were made for other calls."""
    env = installer_environment(tmp_path, {}, OWN)
    assert {name for name, value in env.items() if value == "planted"} == {*REACHING, *INDEXES}
    assert env["PIP_CONFIG_FILE"] == os.devnull
    assert env["PIP_USE_FEATURE"] == "truststore"
    assert env["TMPDIR"] == str(tmp_path)


@pytest.mark.usefixtures("planted")
def test_indexes_replace_those_of_variables(tmp_path: Path) -> None:
    """An operator's indexes are not joined by those that other variables name."""
    env = installer_environment(tmp_path, uv_variables(Indexes("https://one")), Indexes("https://one"))
    assert {name for name, value in env.items() if value == "planted"} == set(REACHING)
    assert env["UV_DEFAULT_INDEX"] == "https://one"


@pytest.mark.usefixtures("planted")
def test_a_build_gets_what_users_set_for_builds(tmp_path: Path) -> None:
    """Constraints and dates for the requirements of a build reach it; what belongs to other calls does not."""
    env = build_environment(tmp_path, {})
    kept = {"UV_EXCLUDE_NEWER", "UV_CONFIG_FILE", "UV_NO_CONFIG", "PIP_CONFIG_FILE"} & env.keys()
    assert kept == {"UV_EXCLUDE_NEWER", "UV_CONFIG_FILE", "UV_NO_CONFIG"}
    assert not {"UV_REQUIRE_HASHES", "GIT_DIR", "UV_PROJECT", "PYTHONPATH"} & env.keys()
    assert env["GIT_CEILING_DIRECTORIES"] == str(tmp_path)


def test_urls_are_said_in_variables_and_not_on_command_lines() -> None:
    """Paths and separators in them arrive as they are."""
    indexes = Indexes("https://one", ("https://two", "/a b"), ("https://x/1,2", "/wheels"), equal=True, no_index=True)
    assert uv_variables(indexes) == {
        "UV_DEFAULT_INDEX": "https://one",
        "UV_INDEX": "https://two file:///a%20b",
        "UV_FIND_LINKS": "https://x/1%2C2,file:///wheels",
    }
    assert pip_variables(indexes) == {
        "PIP_INDEX_URL": "https://one",
        "PIP_EXTRA_INDEX_URL": "https://two file:///a%20b",
        "PIP_FIND_LINKS": "https://x/1,2 file:///wheels",
    }
    assert uv_variables(OWN) == pip_variables(OWN) == {}
    assert uv_options(indexes) == ["--index-strategy", "unsafe-best-match", "--no-index"]
    assert pip_options(indexes) == ["--no-index"]
    assert uv_options(OWN) == pip_options(OWN) == []


def test_passwords_lie_in_a_file_that_others_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the user's own entries too; a URL whose password netrc cannot hold keeps it."""
    (tmp_path / "mine").write_text("machine mine login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "mine"))
    urls = [
        "",
        "https://a:b%40c@one/x",
        "https://a:b%40c@one:8/y",
        "https://other:pw@one/",
        "https://a:b%20c@two",
        "/w",
    ]
    bare, env = without_passwords(urls, tmp_path)
    assert bare == ["", "https://one/x", "https://one:8/y", *urls[3:]]
    written = Path(env["NETRC"])
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_text().splitlines() == [
        "machine mine login me password secret",
        "machine one login a password b@c",
    ]
    assert without_passwords(["https://one"], tmp_path / "nowhere") == (["https://one"], {})


BACKEND = """
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    files = {
        "built.py": "",
        "built-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n",
        "built-1.0.dist-info/WHEEL":
            "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files["built-1.0.dist-info/RECORD"] = "".join(name + ",,\\n" for name in [*files, "built-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(directory + "/built-1.0-py3-none-any.whl", "w") as bundle:
        for name, text in files.items():
            bundle.writestr(name, text)
    return "built-1.0-py3-none-any.whl"
"""


def sdist() -> bytes:
    """Return a project that has to be built, with a requirement of its build from the index."""
    table = '[build-system]\nrequires=["sample==1.0"]\nbuild-backend="backend"\nbackend-path=["."]\n'
    files = {
        "pyproject.toml": table + '[project]\nname="built"\nversion="1.0"\n',
        "backend.py": BACKEND,
        "PKG-INFO": "Metadata-Version: 2.1\nName: built\nVersion: 1.0\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"built-1.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def private(tmp_path: Path) -> Iterator[tuple[Index, Path]]:
    """Serve an index that asks for a password, with a certificate of an authority that nobody trusts; return both."""
    ca, server = authority(tmp_path / "authority")
    index = Index()
    index.user = "node:CANARY7"
    index.add("sample", "1.0")
    index.wheels["built"] = {"built-1.0.tar.gz": sdist()}
    with serving(index, server):
        yield index, ca


def installer_of(name: str, directory: Path) -> Installer:
    """Return uv or pip with this machine's settings of trust."""
    python, trust = Path(sys.executable), configured_trust(directory)
    if name == "uv":
        return Uv(Path(find_uv_bin()), python, directory / "uv", trust)
    pip = find_pip(python)
    assert pip is not None
    return Pip(pip, python, directory / "pip", trust)


@pytest.mark.parametrize("which", ["uv", "pip"])
@pytest.mark.parametrize("how", ["in a variable of pip", "in a file of pip"])
def test_a_node_with_settings_of_all_kinds_installs_exact_pins(
    which: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: tuple[Index, Path]
) -> None:
    """Whatever they require; by pip's certificates alone; and the password of the index is on no command line."""
    index, ca = private
    (tmp_path / "bounds").write_text("sample==0.5\nbuilt==0.5\n")
    home = tmp_path / "home" / ".config" / "pip"
    home.mkdir(parents=True)
    certificate = f"cert = {ca}\n" if "file" in how else ""
    (home / "pip.conf").write_text(f"[global]\n{certificate}constraint = {tmp_path / 'bounds'}\nrequire-hashes = yes\n")
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_", "SSL_", "XDG_", "REQUESTS_", "CURL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in {
        "UV_REQUIRE_HASHES": "1",
        "UV_CONSTRAINT": str(tmp_path / "bounds"),
        "UV_EXCLUDE_NEWER": "2001-01-01",
        "UV_BUILD_CONSTRAINT": str(tmp_path / "bounds"),
        "UV_NO_BUILD": "1",
        "UV_LINK_MODE": "symlink",
        "PIP_CONSTRAINT": str(tmp_path / "bounds"),
        "PIP_REQUIRE_HASHES": "1",
        "PIP_TARGET": str(tmp_path / "away"),
        **({} if certificate else {"PIP_CERT": str(ca)}),
    }.items():
        monkeypatch.setenv(name, value)
    seen: set[str] = set()
    index.asked = lambda: seen.update(command for command in command_lines() if "CANARY7" in command)
    indexes = Indexes(index.url.replace("://", f"://{index.user}@"))
    installer, layer = installer_of(which, tmp_path), tmp_path / "aside" / "layer"
    layer.parent.mkdir()
    make_environment(layer, Path(sys.executable), this_interpreter())
    installer.install(layer, ["sample==1.0", "built==1.0"], final=tmp_path / "final", timeout=300, indexes=indexes)
    assert {path.name for path in layer.glob("lib/python*/site-packages/*.py")} >= {"sample.py", "built.py"}
    assert installer.resolve(["sample"], [], timeout=300, indexes=indexes) == ("sample==1.0",)
    assert any(path.endswith(".whl") for path in index.served)
    assert not seen
    assert not (tmp_path / "away").exists()
