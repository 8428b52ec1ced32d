"""Datasets that are always the same: shipped in packages, drawn from scratch, or published."""
