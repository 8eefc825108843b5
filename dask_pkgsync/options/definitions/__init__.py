"""Every option, once.

Keywords, flags of the command line, configuration, its checks, its schema and the tables of the reference come from
here. To add an option:

1. Define it in `person`, `scheduler` or `node`, at the place where people are to read it.
2. A keyword of `sync` and `PackageSync`: name it in `keywords.Options` too, for type checkers.
3. Read it with `values.read`, in the file beside this folder that is named after who reads it.
4. Run ``python -m dask_pkgsync.options``, which writes what is made of the definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_pkgsync.options.definitions import node, person, scheduler
from dask_pkgsync.options.option import Option, Whose

if TYPE_CHECKING:
    from types import ModuleType


def _of(module: ModuleType) -> tuple[Option[Any], ...]:
    return tuple(value for value in vars(module).values() if isinstance(value, Option))


OPTIONS = (*_of(person), *_of(scheduler), *_of(node))
"""In the order in which these files have them, which is that of signatures and documentation."""
BY_KEY = {option.key: option for option in OPTIONS}
KEYWORDS = tuple(option for option in OPTIONS if option.whose is Whose.KEYWORD)
"""What `sync` and `PackageSync` take."""
