"""Benchmarks of the checkout in which they lie: ``python -m benchmarks``.

What they measure is this checkout's own source, in whatever way, and whether at all, the package is installed in the
interpreter that runs them. What they need besides is what the ``test`` extra brings.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""The directory of the project that is measured."""

_first = (str(CHECKOUT), str(CHECKOUT / "tests"))
_scripts = str(CHECKOUT / "benchmarks")  # Python's own first entry where one of the files is run as a script
sys.path[:] = [*_first, *(entry for entry in sys.path if entry not in (*_first, _scripts))]
