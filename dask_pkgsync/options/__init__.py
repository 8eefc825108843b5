"""The options: the one definition of each, the place its value comes from, and the checks of values."""
