"""What differs between two runs, and which input each change of a decision comes from."""
