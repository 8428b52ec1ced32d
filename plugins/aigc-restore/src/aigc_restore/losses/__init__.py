"""Losses of restoration that the core does not have."""
