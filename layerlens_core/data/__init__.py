"""What people bring: rows of text in a file, the model that they name, and what a task makes of both."""
