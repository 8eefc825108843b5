"""The one directory of dask-pkgsync on a machine: its layout, locks and leases, and the removal of what is unused."""
