"""The own environment of a process that runs in a layer: what somebody installs there lands in it, and ends with it.

It is an empty virtual environment behind the layer. The programs that a process starts find its interpreter first, as
`sys.executable`, ``VIRTUAL_ENV`` and on PATH, so that ``python -m pip``, ``pip``, ``uv pip`` and Dask's ``PipInstall``
install into it, and not into the layer. That is also true for root, whom the layer's read-only directories do not stop.

What is installed there can be imported, but never hides what the layer or the base has: the layer comes first.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layout import LIBRARY, VirtualEnvironment
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from dask_pkgsync.layers.layer import Layer

DIRECTORY = "dask-pkgsync-installed-here"
"""Name of its directory in that of the worker."""
_LAYER_LINK = "dask_pkgsync_layer.pth"
"""The .pth file that puts the layer, and the base behind it, in front of what is installed here."""

_NO_PIP = '''"""Stands for pip, which neither layer nor base has; a pip that is installed here comes before it."""

PROBLEM = (
    "there is no pip in the environment that dask-pkgsync has synced to this process. To give a package to all "
    "workers, name it in extra, as in sync(client, extra=['name']), or install it in your own environment, and sync."
)
if __name__ == "__main__":
    raise SystemExit(PROBLEM)
raise ImportError(PROBLEM)
'''


class OwnEnvironment(VirtualEnvironment):
    """The own environment of one process.

    Parameters
    ----------
    root : Path
        Its directory.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.python_directory = root, LIBRARY

    def put_behind(self, layer: Layer) -> None:
        """Make the environment if it is not there, and put it behind a layer. Blocks, for some small files."""
        self.bin.mkdir(parents=True, exist_ok=True)
        self.site_packages.mkdir(parents=True, exist_ok=True)
        for name in ("python", "python3"):
            (self.bin / name).unlink(missing_ok=True)
            (self.bin / name).symlink_to(os.path.realpath(layer.python))
        (self.root / "pyvenv.cfg").write_text((layer.root / "pyvenv.cfg").read_text())
        (self.site_packages / _LAYER_LINK).write_text(_link_to(layer, self.site_packages))
        for name in ("pip", "pip3"):
            script = self.bin / name
            script.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n')
            script.chmod(0o755)
        if layer.complete or ("pip" not in sys.modules and find_spec("pip") is None):
            (self.site_packages / "pip.py").write_text(_NO_PIP)


def _link_to(layer: Layer, site_packages: Path) -> str:
    """Return the text of a .pth file that adds the layer, with its own .pth files, in front of the directory."""
    own, packages = str(site_packages), str(layer.site_packages)
    return f"import site, sys; site.addsitedir({packages!r}); sys.path.remove({own!r}); sys.path.append({own!r})\n"


def own_environment(place: Path | None = None) -> OwnEnvironment:
    """Return the own environment of this process; it is made when it is first put behind a layer.

    Parameters
    ----------
    place : Path, optional
        A directory that ends with this process; by default a temporary one.
    """
    state = this_process()
    if not state.own_environment:
        state.own_environment = str((place or _temporary()) / DIRECTORY)
    return OwnEnvironment(Path(state.own_environment))


def _temporary() -> Path:
    directory = tempfile.mkdtemp(prefix="dask-pkgsync-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)
