"""Wheels that only clients have: which client is asked, and what is kept for the nodes."""
