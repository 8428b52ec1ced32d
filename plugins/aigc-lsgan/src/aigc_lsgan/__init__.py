"""LSGAN for aigc-lightning."""
