"""The trace of a run: what its events hold, how they become lines, and how lines are read."""
