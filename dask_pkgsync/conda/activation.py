"""The environment variables of a process in a conda prefix, as ``conda activate`` would set them.

Packages such as gdal, proj or compilers need more than `PATH`: they bring scripts in ``etc/conda/activate.d`` that set
variables for a shell.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.model.child_environment import child_environment
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCRIPTS = "etc/conda/activate.d"
"""The directory of a prefix with the scripts that its packages bring for shells."""
TIMEOUT = 60.0
"""Seconds in which all scripts must have ended."""
_SHELLS = ("bash", "sh")
"""Shells in which the scripts can run; they are written for bash."""
_OF_THE_SHELL = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "BASH_FUNC_which%%"})
_RUN = 'for script in "$CONDA_PREFIX"/' + SCRIPTS + '/*.sh; do . "$script" >&2; done; env -0'


def activated(prefix: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that a process in a prefix has otherwise than this process. Blocks.

    Parameters
    ----------
    prefix : Path
    environ : mapping of str to str, optional
        The variables of this process.

    Raises
    ------
    LayerError
        If a script of a package fails, or does not end.
    """
    environ = os.environ if environ is None else environ
    own = {
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": str(prefix),
        "CONDA_SHLVL": "1",
        "PATH": os.pathsep.join(filter(None, (str(prefix / "bin"), environ.get("PATH", "")))),
    }
    if not any((prefix / SCRIPTS).glob("*.sh")):
        return own
    shell = next(filter(None, map(shutil.which, _SHELLS)), None)
    if shell is None:
        raise LayerError(
            "activate",
            f"packages of the environment set variables by scripts ({SCRIPTS}), and this node has no shell for them",
            advice="Install bash on this node.",
        )
    before = {**child_environment(environ), **own}
    try:
        finished = run([shell, "-c", _RUN], timeout=TIMEOUT, env=before)
    except DeadlineExceededError as error:
        problem, words = f"the scripts in {prefix / SCRIPTS} did not end within {error.timeout:g} s", error.stderr
    else:
        if not finished.returncode:
            pairs = (line.partition("=") for line in finished.stdout.split("\0") if "=" in line)
            after = {name: value for name, _, value in pairs if name not in _OF_THE_SHELL}
            return {name: value for name, value in after.items() if environ.get(name) != value}
        problem, words = f"a script in {prefix / SCRIPTS} failed", finished.stderr
    raise LayerError(
        "activate",
        problem,
        advice="Run `conda activate` in this environment on the client, and mend or remove the package whose script "
        "fails.",
        last_words=words,
    )
