"""Reads lock files as environments, with one module for each format."""
