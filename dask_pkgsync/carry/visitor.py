"""Calls a function of dask-pkgsync in a process that need not have it, and leaves nothing there.

This file travels as text, by itself, like `carry.bootstrap`: it imports nothing of ours. It must run on every Python
that a cluster may have, also on those that dask-pkgsync does not support (`carry.visit` says what happens there).
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

PACKAGE = "dask_pkgsync"
OLDEST = (3, 10)
"""The oldest Python that dask-pkgsync runs on."""


class Guest(MetaPathFinder, Loader):
    """Imports the modules of a package from texts, under another name than its own.

    So neither a copy of the package that is installed in this process is touched, nor one that another visit uses.

    Parameters
    ----------
    name : str
        The name that the package gets.
    texts : dict of str to str
        The text of each module, by its path in the package, for example ``model/text.py``.
    """

    def __init__(self, name: str, texts: dict[str, str]) -> None:
        self.name, self.texts = name, texts

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Find a module among the texts."""
        if fullname.partition(".")[0] != self.name:
            return None
        stem = fullname.partition(".")[2].replace(".", "/")
        for file, is_package in ((stem + ".py", False), ((stem + "/__init__.py").lstrip("/"), True)):
            if file in self.texts:
                spec = ModuleSpec(fullname, self, origin="%s/%s" % (PACKAGE, file), is_package=is_package)
                spec.loader_state = self.texts[file]
                return spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the text of a module, in which the package has its other name."""
        import re

        spec: Any = module.__spec__
        module.__file__ = "/%s/%s" % (self.name, spec.origin)  # there is no such file
        text = re.sub(r"\b%s\b" % PACKAGE, self.name, spec.loader_state)
        exec(compile(text, spec.origin, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # our own text

    def leave(self) -> None:
        """Forget all modules that were imported."""
        sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name.partition(".")[0] == self.name]:
            del sys.modules[name]


def call(compressed: bytes, function: str, arguments: dict[str, Any]) -> Any:
    """Import the module of a function from its text, call the function, and forget the module.

    Parameters
    ----------
    compressed : bytes
        The texts of the modules as JSON, compressed.
    function : str
        ``module:name`` of the function, where the module is that in the package, for example ``model.text``.
    arguments : dict
        The keyword arguments.
    """
    import importlib
    import json
    import uuid
    import zlib

    guest = Guest("_%s_%s" % (PACKAGE, uuid.uuid4().hex), json.loads(zlib.decompress(compressed)))
    module, _, name = function.partition(":")
    sys.meta_path.insert(0, guest)
    try:
        return getattr(importlib.import_module(guest.name + "." + module), name)(**arguments)
    finally:
        guest.leave()


def packages() -> dict[str, Any]:
    """Return what an old Python can say of itself without our scan: its version, and the versions of its packages."""
    import platform
    import sysconfig
    from importlib import metadata

    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name, distribution.version)
    return {
        "implementation": sys.implementation.name,
        "python": platform.python_version(),
        "platform": sysconfig.get_platform(),
        "host": platform.node(),
        "packages": found,
    }


async def pkgsync_visit(compressed: bytes, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a function in a thread; return ``{"result": …}``, ``{"error": text}``, or `packages` on an old Python."""
    import asyncio

    def visit() -> dict[str, Any]:
        try:
            if sys.version_info < OLDEST:
                return packages()
            return {"result": call(compressed, function, arguments)}
        except Exception as error:  # noqa: BLE001  # the class of the error need not exist in the other process
            return {"error": "%s: %s" % (type(error).__name__, error)}

    return await asyncio.get_running_loop().run_in_executor(None, visit)
