"""The command line: ``dask pkgsync …``, a file for each command."""
