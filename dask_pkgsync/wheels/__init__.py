"""Makes wheels of local code, checks those of others, and keeps their bytes."""
