"""From a profile to a plan: utilities, candidates, limits, decisions, and why."""
