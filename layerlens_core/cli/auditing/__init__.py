"""Auditing a run, and what is printed of it."""
