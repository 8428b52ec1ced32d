"""Style transfer for aigc-lightning."""
