"""The report of a run: configuration, results and evaluation, read from its folder only."""
