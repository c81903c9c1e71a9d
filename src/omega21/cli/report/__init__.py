"""The report of a run: what was trained and what came of it, from its folder alone."""
