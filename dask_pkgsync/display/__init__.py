"""Shows the progress of a sync to a person: in a terminal, in a notebook, as plain lines."""
