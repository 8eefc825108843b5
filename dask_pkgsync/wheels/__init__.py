"""Makes wheels of local code, inspects wheels from other processes, and stores wheels as blobs."""
