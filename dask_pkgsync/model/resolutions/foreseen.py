"""The platforms for which a client can look ahead, without a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping

UV_NAMES: Mapping[str, str] = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-aarch64": "aarch64-manylinux_2_28",
    "musllinux-x86_64": "x86_64-unknown-linux-musl",
    "musllinux-aarch64": "aarch64-unknown-linux-musl",
    "macosx-arm64": "aarch64-apple-darwin",
    "macosx-x86_64": "x86_64-apple-darwin",
    "win-amd64": "x86_64-pc-windows-msvc",
}
"""uv's name of each platform. Most nodes that run Linux have glibc 2.28 or newer, for which most wheels are made."""


def interpreter_for(platform: str, own: Interpreter) -> Interpreter:
    """Return an interpreter of another platform, of the implementation and version of this one.

    Raises
    ------
    PolicyError
        If the platform has no known name.
    """
    if platform not in UV_NAMES:
        raise PolicyError(f"expected a platform, one of {', '.join(UV_NAMES)}; found {platform!r}")
    return Interpreter(own.implementation, own.version, platform, "")
