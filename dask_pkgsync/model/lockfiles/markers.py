"""What environment markers (PEP 508) say of an interpreter that need not be the one that runs this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from dask_pkgsync.model.environments.interpreter import IMPLEMENTATIONS, Interpreter
from dask_pkgsync.model.errors import PolicyError

if TYPE_CHECKING:
    from packaging.markers import Marker


def applies(marker: Marker, interpreter: Interpreter, extra: str = "") -> bool:
    """Whether a marker is true for an interpreter on this machine, with an extra of the project."""
    return marker.evaluate({**variables_of(interpreter), "extra": extra})


def variables_of(interpreter: Interpreter) -> dict[str, str]:
    """Return the variables of markers that tell interpreters on one machine apart."""
    name = IMPLEMENTATIONS.get(interpreter.implementation, interpreter.implementation)
    return {
        "python_version": interpreter.feature_version,
        "python_full_version": interpreter.version,
        "implementation_name": interpreter.implementation,
        "implementation_version": interpreter.version,
        "platform_python_implementation": name,
    }


def refuse_other_python(name: str, required: str, interpreter: Interpreter) -> None:
    """Raise `PolicyError` if a lock file is for other versions of Python than that of an interpreter.

    Parameters
    ----------
    name : str
        Path of the file.
    required : str
        What it requires (``requires-python``), for example ``>=3.12``; empty for anything.
    interpreter : Interpreter
    """
    try:
        fits = SpecifierSet(required).contains(interpreter.version, prereleases=True)
    except InvalidSpecifier:
        raise PolicyError(f"{name}: requires-python: {required!r} is no specifier of versions") from None
    if not fits:
        raise PolicyError(
            f"{name}: is for Python {required}, and would be for {interpreter.label}; name another Python, for example "
            "with --python"
        )
