"""What happens around a run: progress, pictures, losses, checkpoints, provenance."""
