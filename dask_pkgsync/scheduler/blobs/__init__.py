"""Blobs: packages that only clients can provide, which client is asked for them, and their storage for the nodes."""
