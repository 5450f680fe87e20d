"""What commands say while something takes long."""
