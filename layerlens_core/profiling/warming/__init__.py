"""A warm-up: LoRA on every scored module for the first steps of a run, and what is learned from watching it."""
