"""Run a model on data and gather statistics: the one engine that does, and what it is made of."""
