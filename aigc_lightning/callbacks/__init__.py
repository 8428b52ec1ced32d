"""Callbacks around training: progress, sample grids, losses, checkpoints, provenance."""
