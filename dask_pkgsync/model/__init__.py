"""Data and decisions, without any I/O: the standard library and packaging alone.

No clock, no files, no logging, no configuration, no Dask. Everything here can be called with plain values and
answers with plain values.
"""
