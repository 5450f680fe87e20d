"""Apply a plan to a model, and load what was saved: everything that changes a model's structure."""
