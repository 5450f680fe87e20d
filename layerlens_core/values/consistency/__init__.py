"""Whether what was read from a file agrees with itself."""
