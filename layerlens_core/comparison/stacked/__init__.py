"""Many arms trained at once on one frozen model: K arms lie along the batch, each with adapters of its own."""
