"""``python -m dask_pkgsync``: the commands of ``dask pkgsync``, which start without importing Dask."""

from __future__ import annotations

from dask_pkgsync.cli.start import main

main(prog_name="python -m dask_pkgsync")
