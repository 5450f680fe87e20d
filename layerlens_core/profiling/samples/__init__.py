"""Samples: batches of every kind taken apart, put together again, and what a task asks of them."""
