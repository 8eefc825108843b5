"""The page ``/pkgsync`` and the metrics on the HTTP servers of a scheduler and its workers. It only looks."""
