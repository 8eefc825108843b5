"""The one directory on a machine that is ours: its layout, locks, leases, and what is removed when."""
