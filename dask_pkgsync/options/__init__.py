"""Every option once: its definition, where its value comes from, and whether that is right."""
