"""What a run leaves on disk, and how it is written: whole or not at all. Nothing here imports torch."""
