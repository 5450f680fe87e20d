"""How modules are listened to: taps on their inputs and output gradients, in compiled layers too."""
