"""The command line ``dask pkgsync …``, with one module for each command."""
