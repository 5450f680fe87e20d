"""Readers of data files, one module a kind."""
