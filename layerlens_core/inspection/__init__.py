"""Read what a model is made of, and change nothing."""
