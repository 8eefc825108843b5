"""Makes calls of our functions that any process of a Dask cluster can answer, also one without dask-pkgsync.

The function that is pickled is a call of the built-in `eval` with the text of `carry.visitor`. The modules that it
imports come along as texts, and are imported in memory: nothing is written, and no module of them stays. Text means the
same to all versions of Python, so the cluster may have another one.
"""

from __future__ import annotations

import ast
import json
import pickle
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PACKAGE = Path(__file__).parents[1]
_EXPRESSION = "(exec(compile(text, 'dask_pkgsync/carry/visitor.py', 'exec'), names), names['pkgsync_visit'])[1]"
_PROTOCOL = 4
"""A pickle protocol that every Python reads which a cluster may have."""


class _Visitor:
    """Pickles as a call of `eval`, which returns the function of `carry.visitor`."""

    def __reduce__(self) -> tuple[Any, ...]:
        text = (_PACKAGE / "carry" / "visitor.py").read_text(encoding="utf-8")
        return eval, (_EXPRESSION, {"text": text, "names": {"__name__": "dask_pkgsync_visitor"}})


def visit(function: str, **arguments: Any) -> dict[str, bytes]:
    """Return the arguments of Dask's handlers ``run`` and ``run_function`` that call a function of ours there. Blocks.

    Parameters
    ----------
    function : str
        ``module:name``, for example ``dask_pkgsync.scanning.observation:observe``. The module, and all that it imports
        of ours, must need nothing but the standard library and what Dask itself needs.
    **arguments
        The keyword arguments of the function.

    Returns
    -------
    dict of str to bytes
        ``function`` and ``kwargs``. The texts are among the latter, as a scheduler keeps the former in its events.
    """
    module, _, name = function.partition(":")
    within = module.partition(".")[2]
    given = {"compressed": _excerpt(within), "function": f"{within}:{name}", "arguments": arguments}
    return {"function": pickle.dumps(_Visitor(), _PROTOCOL), "kwargs": pickle.dumps(given, _PROTOCOL)}


@cache
def _excerpt(module: str) -> bytes:
    """Return the texts of a module and of all modules that it imports of this package, as compressed JSON."""
    texts: dict[str, str] = {}
    left = [module]
    while left:
        name = left.pop()
        file = _file_of(name)
        if file is None or file in texts:
            continue
        texts[file] = (_PACKAGE / file).read_text(encoding="utf-8")
        left += [name.rpartition(".")[0], *_imported(ast.parse(texts[file]))]
    return zlib.compress(json.dumps(dict(sorted(texts.items()))).encode(), 9)


def _file_of(module: str) -> str | None:
    """Return the path of a module in the package; None if it is a name in a module."""
    stem = module.replace(".", "/")
    files = (f"{stem}.py", f"{stem}/__init__.py".lstrip("/"))
    return next((file for file in files if (_PACKAGE / file).is_file()), None)


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the modules of this package that a module imports anywhere, except for annotations alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom) and (child.module or "").partition(".")[0] == _PACKAGE.name:
            within = str(child.module).partition(".")[2]
            yield within
            yield from (f"{within}.{alias.name}".lstrip(".") for alias in child.names)
        yield from _imported(child)
