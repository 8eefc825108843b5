"""Lock files as environments: one file for each format."""
