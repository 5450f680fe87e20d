"""Rules that make the arms of a comparison from a profile, a plan and a budget. Nothing here trains."""
