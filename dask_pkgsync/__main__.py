"""``python -m dask_pkgsync``: the commands of ``dask pkgsync``, which start without importing Dask."""

from __future__ import annotations

from dask_pkgsync.cli.group import pkgsync

pkgsync(prog_name="python -m dask_pkgsync")
