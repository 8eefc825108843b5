"""``dask pkgsync demo``: a real cluster on this machine, in an environment of its own."""
