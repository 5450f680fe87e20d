"""Several processes that profile one model together, and models larger than one device."""
