"""Run all benchmarks: ``python benchmarks``, in an environment with the ``test`` extra. Takes some minutes."""

from __future__ import annotations

import gate
import layers
import local_code
import scan
import sync

if __name__ == "__main__":
    for benchmark in (scan, layers, sync, local_code, gate):
        benchmark.main([])
