"""The interpreter of an environment: what decides which wheels fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.model.wire.fields import Field


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What decides which wheels fit."""

    implementation: str
    """`sys.implementation.name`, for example ``cpython``."""
    version: str
    """Full version, for example ``3.11.7``."""
    platform: str
    """`sysconfig.get_platform`, for example ``linux-x86_64``."""
    tag: str
    """The most specific wheel tag (PEP 425), for example ``cp311-cp311-manylinux_2_36_x86_64``; empty if unknown."""

    @property
    def feature_version(self) -> str:
        """Major and minor version, for example ``3.11``."""
        return ".".join(self.version.split(".")[:2])

    def same_platform(self, other: Interpreter) -> bool:
        """Whether the same binary wheels fit both (same implementation, X.Y, ABI, system and processor)."""
        mine = (self.implementation, self.feature_version, self.platform)
        if mine != (other.implementation, other.feature_version, other.platform):
            return False
        return not (self.tag and other.tag) or self._abi_and_libc == other._abi_and_libc

    @property
    def _abi_and_libc(self) -> tuple[str, bool]:
        """Free-threaded builds and musl share the platform of the others; only the tag tells that wheels differ."""
        _, _, rest = self.tag.partition("-")
        abi, _, system = rest.partition("-")
        return abi, system.startswith("musllinux")


def interpreter_to_wire(interpreter: Interpreter) -> dict[str, Any]:
    """Return an interpreter as plain data."""
    return {
        "implementation": interpreter.implementation,
        "version": interpreter.version,
        "platform": interpreter.platform,
        "tag": interpreter.tag,
    }


def interpreter_from_wire(field: Field) -> Interpreter:
    """Check and read what `interpreter_to_wire` wrote."""
    implementation, platform, tag = (field.key(name).text(200) for name in ("implementation", "platform", "tag"))
    return Interpreter(implementation, field.key("version").version(), platform, tag)
