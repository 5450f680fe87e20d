"""Training data as people have it: rows of text in a file, and what a task makes of them."""
