"""Whether an imported module is still what its file says: a package may be upgraded, or edited, after its import.

Nothing records from which state of a file a module was made. So its functions, and its plain constants, are compared
with those of the file as it is now.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def differs(module: ModuleType, file: str) -> bool:
    """Whether a module in memory was made from another state of its Python file. Blocks.

    Parameters
    ----------
    module : module
    file : str
        Path of the file, as the module's ``__file__`` has it.
    """
    if not isinstance(getattr(vars(module).get("__spec__"), "loader", None), SourceFileLoader):
        return False  # compiled, or rewritten by a hook, as pytest does with assertions
    try:
        with open(file, "rb") as source:  # noqa: PTH123  # the path is compared with those in code objects
            tree = ast.parse(source.read(), file)
        known = set(_states(compile(tree, file, "exec", dont_inherit=True)))
    except FileNotFoundError:
        return True
    except (OSError, SyntaxError, ValueError, RecursionError):  # not readable, or just being edited
        return False
    if any(_state(function.__code__) not in known for function in _functions(module, file)):
        return True
    names = vars(module)
    if any(name not in names for name in _defined(tree)):
        return True
    plain = {name: value for name, value in names.items() if isinstance(value, str | int | float)}
    return any(name in plain and plain[name] != value for name, value in _constants(tree))


def _states(code: CodeType) -> Iterator[tuple[Any, ...]]:
    """Yield the state of each function in the code of a module."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield _state(constant)
            yield from _states(constant)


def _state(code: CodeType) -> tuple[Any, ...]:
    """Return what a function does, without its lines, and without flags, which `types.coroutine` changes."""
    constants = (_state(one) if isinstance(one, CodeType) else (type(one).__name__, one) for one in code.co_consts)
    return code.co_name, code.co_code, code.co_names, code.co_varnames, tuple(constants)


def _functions(module: ModuleType, file: str) -> Iterator[FunctionType]:
    """Yield the functions of a module and of its classes that were made from its own file."""
    members = list(vars(module).values())
    classes = [value for value in members if isinstance(value, type) and value.__module__ == module.__name__]
    for value in (*members, *(value for one in classes for value in list(vars(one).values()))):
        function = _plain(value)
        if isinstance(function, FunctionType) and function.__code__.co_filename == file:
            yield function


def _plain(value: Any) -> Any:
    """Return the function in a method, property or wrapper; the value itself if there is none."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    while isinstance(value, FunctionType) and "__wrapped__" in vars(value):
        value = vars(value)["__wrapped__"]
    return value


def _defined(tree: ast.Module) -> set[str]:
    """Return the names of the functions and classes that a file defines in any case, and does not delete."""
    deleted = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del)}
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {statement.name for statement in tree.body if isinstance(statement, kinds)} - deleted


def _constants(tree: ast.Module) -> Iterator[tuple[str, str | int | float]]:
    """Yield the names to which a file assigns a text or number, once and for good."""
    rebound = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    stored = Counter(node.id for node in names)
    for statement in tree.body:
        match statement:
            case ast.Assign([ast.Name(name)], ast.Constant(str() | int() | float() as value)) if (
                name not in rebound and stored[name] == 1 and not isinstance(value, bool)
            ):
                yield name, value
