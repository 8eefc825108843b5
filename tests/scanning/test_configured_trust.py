"""Whom uv or pip is configured to trust is said to both of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from dask_pkgsync.scanning import pip_configuration
from dask_pkgsync.scanning.configured_trust import configured_trust

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that reads what files below a home directory, and variables, say."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(pip_configuration, "OF_THE_MACHINE", tmp_path / "none")
    (tmp_path / "certificates").mkdir()

    def read(pip: str = "", uv: str = "", **environ: str) -> dict[str, str]:
        for name, text in {".config/pip/pip.conf": pip, ".config/uv/uv.toml": uv}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text.replace("HOME", str(tmp_path)))
        fixed = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}
        replaced = {name: value.replace("HOME", str(tmp_path)) for name, value in environ.items()}
        said = configured_trust(tmp_path, {**fixed, **replaced})
        return {name: value.replace(str(tmp_path), "HOME") for name, value in said.items()}

    return read


@pytest.mark.parametrize(
    ("pip", "uv", "environ", "expected"),
    [
        ("", "", {}, {}),
        ("", "", {"PIP_CERT": "HOME/ca.pem"}, {"PIP_CERT": "HOME/ca.pem", "SSL_CERT_FILE": "HOME/ca.pem"}),
        ("[global]\ncert = HOME/ca.pem", "", {}, {"PIP_CERT": "HOME/ca.pem", "SSL_CERT_FILE": "HOME/ca.pem"}),
        (
            "[install]\ncert = HOME/certificates",
            "",
            {},
            {"PIP_CERT": "HOME/certificates", "SSL_CERT_DIR": "HOME/certificates"},
        ),
        ("[global]\ncert = HOME/ca.pem", "", {"SSL_CERT_FILE": "/other.pem"}, {"PIP_CERT": "HOME/ca.pem"}),
        ("[global]\ncert = HOME/ca.pem", "", {"SSL_CERT_DIR": "/others"}, {"PIP_CERT": "HOME/ca.pem"}),
        (
            "[global]\ntrusted-host =\n    one\n    two:8443",
            "",
            {},
            {"PIP_TRUSTED_HOST": "one\ntwo:8443", "UV_INSECURE_HOST": "one two:8443"},
        ),
        (
            "[global]\nproxy = http://a:b@proxy",
            "",
            {},
            dict.fromkeys(("PIP_PROXY", "HTTP_PROXY", "HTTPS_PROXY"), "http://a:b@proxy"),
        ),
        ("[global]\nproxy = http://proxy", "", {"https_proxy": "http://other"}, {"PIP_PROXY": "http://proxy"}),
        (
            "[global]\ntimeout = 60.5\nretries = 7\nkeyring-provider = import\nclient-cert = HOME/me.pem",
            "",
            {},
            {
                "PIP_TIMEOUT": "60.5",
                "PIP_RETRIES": "7",
                "PIP_KEYRING_PROVIDER": "import",
                "UV_HTTP_TIMEOUT": "60",
                "UV_HTTP_RETRIES": "7",
                "PIP_CLIENT_CERT": "HOME/me.pem",
                "SSL_CLIENT_CERT": "HOME/me.pem",
            },
        ),
        (
            "",
            'system-certs = true\nallow-insecure-host = ["one", "two"]\nkeyring-provider = "subprocess"',
            {},
            {"UV_SYSTEM_CERTS": "true", "UV_INSECURE_HOST": "one two", "UV_KEYRING_PROVIDER": "subprocess"},
        ),
        ("", "native-tls = true", {"UV_SYSTEM_CERTS": "0"}, {}),
        ("", "native-tls = 5\nallow-insecure-host = 5", {}, {}),
        ("[global]\nrequire-hashes = yes\nconstraint = x", 'exclude-newer = "2001-01-01"', {}, {}),
    ],
)
def test_what_one_tool_is_configured_with_is_said_to_both(
    pip: str, uv: str, environ: dict[str, str], expected: dict[str, str], read: Any
) -> None:
    """Variables before files, and uv's own before those of pip; settings of other kinds are not read."""
    assert read(pip, uv, **environ) == expected
