"""The version of this release: the one place that says it."""

__version__ = "0.3.0.dev0"
