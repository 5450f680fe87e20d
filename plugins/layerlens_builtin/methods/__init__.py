"""PEFT methods: where each attaches, what it costs and how its size grows. Nothing here imports torch."""
