"""Train arms beside each other on one frozen model, and judge them."""
