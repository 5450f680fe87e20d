"""What methods compute: the modules that `apply` attaches beside those of the model. They import torch."""
