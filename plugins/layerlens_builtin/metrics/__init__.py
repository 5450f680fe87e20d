"""Signals that say what a module or a layer is worth."""
