"""The definitions of all options.

Keywords, flags of the command line, configuration, its checks, its schema and the tables of the reference are made from
these definitions. To add an option:

1. Define it in `person` (set by users), `scheduler` or `node` (set by operators), in the position in which it should
   stand in signatures and documentation.
2. If it is a keyword of `sync` and `PackageSync`, add its type to `keywords.Options`, for type checkers.
3. Read it with `values.read`, in the module of the same name beside this package (`options.person`, …).
4. Run ``python -m dask_pkgsync.options``, which generates the files that are made from the definitions.
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
"""All options, in the order of the definitions, which is the order in signatures and documentation."""
BY_KEY = {option.key: option for option in OPTIONS}
KEYWORDS = tuple(option for option in OPTIONS if option.whose is Whose.KEYWORD)
"""The options that `sync` and `PackageSync` take as keywords."""
