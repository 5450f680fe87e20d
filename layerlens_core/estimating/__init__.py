"""What training takes, from a model's configuration alone: before there are weights or data."""
