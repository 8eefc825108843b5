"""Reads whom uv and pip are configured to trust on this machine, and how they reach indexes.

Of each setting of trust the two tools have one in their own words. What one of them is configured with is said to both,
so that the other can install in its place. These settings belong to one machine: they are sent to no other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_pkgsync.scanning.pip_configuration import pip_settings, variable
from dask_pkgsync.scanning.uv_configuration import uv_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIP_PATHS = ("cert", "client-cert")
_PIP_SETTINGS = (*_PIP_PATHS, "trusted-host", "proxy", "keyring-provider", "timeout", "default-timeout", "retries")
_UV_VARIABLES = {
    "system-certs": "UV_SYSTEM_CERTS",
    "native-tls": "UV_NATIVE_TLS",
    "allow-insecure-host": "UV_INSECURE_HOST",
    "keyring-provider": "UV_KEYRING_PROVIDER",
    "http-proxy": "HTTP_PROXY",
    "https-proxy": "HTTPS_PROXY",
    "no-proxy": "NO_PROXY",
}
"""uv's settings in files, and the environment variables that say the same."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def configured_trust(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return environment variables that say to uv and to pip what their files, and pip's variables, say.

    uv's own variables precede uv's files, and these precede what pip is configured with.

    Parameters
    ----------
    directory : Path, optional
        Where uv starts to look for a project's configuration, upwards; by default the current directory.
    environ : mapping, optional
        Environment variables; by default this process's.
    """
    environ = os.environ if environ is None else environ
    pip = pip_settings(_PIP_SETTINGS, environ)
    for name in set(_PIP_PATHS) & pip.keys():
        pip[name] = str(Path(pip[name]).expanduser().absolute())  # installers run in another directory
    uv = {**_as_uv_says_it(pip), **_from_uv(directory, environ)}
    said = {name: value for name, value in uv.items() if not _is_set(name, environ)}
    return {**said, **{variable(name): value for name, value in pip.items()}}


def _from_uv(directory: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for table in uv_tables(directory, environ):
        for name, variable_ in _UV_VARIABLES.items():
            if name in table and (text := _text(table[name])):
                said.setdefault(variable_, text)
    return said


def _text(value: Any) -> str:
    """Return a value of a TOML file as uv reads it in an environment variable; empty for what uv would not read."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case list():
            return " ".join(entry for entry in value if isinstance(entry, str))
    return ""


def _as_uv_says_it(pip: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of pip in uv's variables, as uv reads none of pip's."""
    said: dict[str, str] = {}
    if certificates := pip.get("cert"):
        said["SSL_CERT_DIR" if Path(certificates).is_dir() else "SSL_CERT_FILE"] = certificates
    if certificate := pip.get("client-cert"):
        said["SSL_CLIENT_CERT"] = certificate
    if hosts := pip.get("trusted-host", "").split():
        said["UV_INSECURE_HOST"] = " ".join(hosts)
    if pip.get("keyring-provider") == "subprocess":  # the one provider that both have
        said["UV_KEYRING_PROVIDER"] = "subprocess"
    if proxy := pip.get("proxy"):
        said.update(dict.fromkeys(_PROXIES[:2], proxy))
    for variable_, value in (
        ("UV_HTTP_TIMEOUT", pip.get("timeout") or pip.get("default-timeout") or ""),
        ("UV_HTTP_RETRIES", pip.get("retries", "")),
    ):
        if whole := value.partition(".")[0]:  # pip reads numbers with a fraction, uv does not
            said[variable_] = whole
    return said


def _is_set(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable is set, or another one that says the same."""
    same = next((names for names in _SAME if name in names), (name,))
    return any(one in environ or one.lower() in environ for one in same)


_SAME = (
    ("SSL_CERT_FILE", "SSL_CERT_DIR"),
    ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS"),
    ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"),
    _PROXIES,
)
"""Variables of which one is enough."""
