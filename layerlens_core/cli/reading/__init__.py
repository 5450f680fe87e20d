"""Commands that read a finished run, and what they show of it."""
