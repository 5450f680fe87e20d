"""``layerlens diff``: two runs beside each other."""
