"""Ways to hand a plan to a trainer."""
