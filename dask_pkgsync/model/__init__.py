"""Data and decisions without any I/O.

This package imports only the standard library and `packaging`. It uses no clock, files, logging, configuration or Dask:
its functions take plain values and return plain values.
"""
