"""Check the contracts under the Dask of this interpreter, and print as JSON what is broken.

``PYTHONPATH=tests python -m contracts [NAME ...]``
"""

from __future__ import annotations

import json
import sys

from contracts import client, node, processes, scheduler
from contracts.law import CONTRACTS

ROOMS = (client, node, processes, scheduler)


def main(*names: str) -> None:
    """Check these contracts, or all of them."""
    print(json.dumps({name: CONTRACTS[name].broken() for name in names or CONTRACTS}))


if __name__ == "__main__":
    main(*sys.argv[1:])
