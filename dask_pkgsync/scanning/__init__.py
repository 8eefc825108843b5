"""Reads environments: installed distributions, local code, loose modules, and the configured indexes of pip and uv."""
