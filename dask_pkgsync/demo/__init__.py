"""``dask pkgsync demo``: demonstrates a sync with a real cluster on this machine."""
