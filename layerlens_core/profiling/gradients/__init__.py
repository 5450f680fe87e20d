"""What is computed of one module's inputs and output gradients: norms, sums, sketches, leading directions."""
