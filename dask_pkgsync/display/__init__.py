"""Shows the progress of a sync: in a terminal, in a notebook, or as plain lines."""
