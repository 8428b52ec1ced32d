"""Data of this package."""
