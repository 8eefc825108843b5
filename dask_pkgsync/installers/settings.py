"""Which settings of a machine reach an installer: those that say where packages come from, and whom to trust.

An installer gets exact pins, or requirements of a user. Settings that change *what* it installs (constraints, required
hashes, a date, a directory, …) were made for other calls, and would make these fail. uv and pip read none of their
configuration files here: what files say about indexes and trust arrives in environment variables, where other users of
the machine cannot read passwords, unlike on a command line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dask_pkgsync.model.child_environment import child_environment, is_any_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dask_pkgsync.model.indexes import Indexes

_UV_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_PIP_INDEXES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")
_REACHING = (
    *("UV_INDEX_STRATEGY", "UV_INDEX_*_USERNAME", "UV_INDEX_*_PASSWORD", "UV_KEYRING_PROVIDER", "UV_CREDENTIALS_DIR"),
    *("UV_GITHUB_TOKEN", "UV_AZURE_ENDPOINT_URL", "UV_GCS_ENDPOINT_URL", "UV_S3_ENDPOINT_URL", "UV_OFFLINE"),
    *("UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT"),
    *("UV_HTTP_CONNECT_TIMEOUT", "UV_HTTP_RETRIES", "UV_CONCURRENT_DOWNLOADS"),
    *("PIP_CERT", "PIP_CLIENT_CERT", "PIP_TRUSTED_HOST", "PIP_KEYRING_PROVIDER", "PIP_PROXY", "PIP_TIMEOUT"),
    *("PIP_DEFAULT_TIMEOUT", "PIP_RETRIES"),
)
"""Variables of uv and pip that say how an index is reached, and whom to trust."""
_OF_BUILDS = (
    *("UV_BUILD_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_NO_SOURCES", "UV_NO_BUILD_ISOLATION"),
    *("UV_CONFIG_FILE", "UV_NO_CONFIG", "UV_CACHE_DIR"),
)
"""Further variables of uv with which users make the builds of their own projects work."""
_PIP_TRUST_FEATURES = {"PIP_USE_FEATURE": "truststore", "PIP_USE_DEPRECATED": "legacy-certs"}
"""Variables of pip for features of all kinds, and in each the one that says whom to trust."""


def installer_environment(temporary: Path, settings: Mapping[str, str], indexes: Indexes) -> dict[str, str]:
    """Return the environment variables for uv or pip that installs or resolves.

    Parameters
    ----------
    temporary : Path
        Directory for the installer's temporary files.
    settings : mapping
        Variables that say the indexes to this installer, and whom this machine trusts.
    indexes : Indexes
        If any are set, they replace those in variables of this process.
    """
    kept = _REACHING if indexes.configured else (*_REACHING, *_UV_INDEXES, *_PIP_INDEXES)
    return {**_reaching(kept, temporary), **settings, "PIP_CONFIG_FILE": os.devnull}


def listed(places: Iterable[str], separator: str) -> str:
    """Return URLs, and absolute paths as URLs, in one variable.

    Parameters
    ----------
    places : iterable of str
    separator : str
        The character between two of them. Within one it is escaped, as in all URLs.
    """
    urls = (Path(place).as_uri() if place.startswith("/") else place for place in places)
    return separator.join(url.replace(separator, quote(separator)) for url in urls)


def build_environment(temporary: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables for the build of a user's own project with ``uv build``.

    uv reads its own configuration files here, as it does when the user builds.

    Parameters
    ----------
    temporary : Path
        Directory for the temporary files of the build. No program of the build takes a git repository above it for
        that of the project.
    settings : mapping
        Variables that say whom this machine trusts.
    """
    kept = (*_REACHING, *_UV_INDEXES, *_PIP_INDEXES, *_OF_BUILDS)
    return {**_reaching(kept, temporary), **settings, "GIT_CEILING_DIRECTORIES": str(temporary)}


def _reaching(kept: tuple[str, ...], temporary: Path) -> dict[str, str]:
    environ = child_environment(os.environ)
    reaching = {
        name: value for name, value in environ.items() if not name.startswith(("UV_", "PIP_")) or is_any_of(name, kept)
    }
    features = {name: one for name, one in _PIP_TRUST_FEATURES.items() if one in environ.get(name, "").split()}
    return {**reaching, **features, "TMPDIR": str(temporary), "NO_COLOR": "1"}
