"""Run a model on data and gather statistics: the engine, and what it is made of."""
