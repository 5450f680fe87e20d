"""What is asked of a model that is profiled: samples, losses, weights, devices, and to be left as it was."""
