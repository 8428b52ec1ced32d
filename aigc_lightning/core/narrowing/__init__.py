"""Models with fewer channels than the ones that they come from."""
