"""Costs that are measured instead of counted: kept activations, and latency."""
