"""What touches the machine: reads environments, runs installers, keeps the cache. Knows no Dask."""
