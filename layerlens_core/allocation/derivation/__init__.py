"""What the numbers of a decision follow from, for explanations."""
