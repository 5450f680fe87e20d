"""Rules that combine metrics into one utility."""
