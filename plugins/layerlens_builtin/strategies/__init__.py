"""Rules that choose a method and a size for every unit."""
