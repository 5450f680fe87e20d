"""The methods that are computed for many arms at once: what each adds at a place, and where its arms start."""
