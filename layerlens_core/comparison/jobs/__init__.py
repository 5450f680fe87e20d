"""Jobs that any engine may run: each is computed once, by whichever process takes it, and its result is a file."""
