"""What people are told of nodes and clients: failures, progress, reports, status, verdicts."""
