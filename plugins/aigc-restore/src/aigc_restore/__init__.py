"""Super-resolution and other image restoration."""
