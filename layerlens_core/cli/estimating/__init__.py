"""``layerlens estimate``: what training would take, from a configuration."""
