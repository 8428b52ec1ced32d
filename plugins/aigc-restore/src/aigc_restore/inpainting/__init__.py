"""Networks that fill holes, and what they start from."""
