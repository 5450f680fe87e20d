"""Everything that reads or changes the structure of a model: inspect it, apply a plan to it."""
