"""What speaks Dask: plugins, handlers and clients that translate between Dask and the layers below."""
