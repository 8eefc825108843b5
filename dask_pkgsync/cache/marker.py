"""The name of the file that makes a directory a finished layer. This module is imported where milliseconds count."""

MARKER = "pkgsync-layer.json"
"""File with the facts about a layer; it is written last, just before the layer is renamed into place."""
