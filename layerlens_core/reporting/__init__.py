"""A run as one page that people read; never imports torch."""
