"""The interpreter of an environment: implementation, version and platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.model.wire.fields import Field


IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalVM"}
"""How `platform.python_implementation` spells the names in `sys.implementation.name`."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python interpreter, described by what decides which wheels can be installed for it."""

    implementation: str
    """`sys.implementation.name`, for example ``cpython``."""
    version: str
    """Full version, for example ``3.11.7``."""
    platform: str
    """What `sysconfig.get_platform` returns, for example ``linux-x86_64``."""
    tag: str
    """The most specific wheel tag (PEP 425), for example ``cp311-cp311-manylinux_2_36_x86_64``; empty if not known."""

    @property
    def feature_version(self) -> str:
        """Major and minor version, for example ``3.11``."""
        return ".".join(self.version.split(".")[:2])

    def same_platform(self, other: Interpreter) -> bool:
        """Whether both take the same binary wheels: same implementation, X.Y, ABI, operating system and processor."""
        own = (self.implementation, self.feature_version, self.platform)
        if own != (other.implementation, other.feature_version, other.platform):
            return False
        return not (self.tag and other.tag) or self._abi_and_libc == other._abi_and_libc

    @property
    def is_free_threaded(self) -> bool:
        """Whether it is a CPython without a global lock."""
        return self.implementation == "cpython" and "t" in self._abi_and_libc[0].removeprefix("cp")

    @property
    def label(self) -> str:
        """Implementation, version and build, for messages, for example ``CPython 3.13.1 (free-threaded)``."""
        name = IMPLEMENTATIONS.get(self.implementation, self.implementation)
        return f"{name} {self.version}{' (free-threaded)' if self.is_free_threaded else ''}"

    @property
    def _abi_and_libc(self) -> tuple[str, bool]:
        """The ABI, and whether the C library is musl: ``platform`` shows neither free-threaded builds nor musl."""
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
