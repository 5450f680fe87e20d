"""The command `compare`, and what it prints."""
