"""Check the contracts under the Dask of this interpreter, and print a line of JSON for each: name, and what is broken.

``PYTHONPATH=tests python -m contracts [NAME ...]``
"""

from __future__ import annotations

import json
import sys

from contracts import client, node, processes, scheduler
from contracts.law import CONTRACTS

ROOMS = (client, node, processes, scheduler)


if __name__ == "__main__":
    for name in sys.argv[1:] or CONTRACTS:
        print(json.dumps([name, CONTRACTS[name].broken()]), flush=True)
