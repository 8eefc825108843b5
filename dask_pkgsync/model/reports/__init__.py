"""Reports for users about nodes and clients: failures, progress, sync reports, status, verdicts."""
