"""Sentences that a plan says of itself as a whole."""
