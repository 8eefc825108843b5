"""Reads environments: what is installed, local code, loose modules, and what configures pip and uv."""
