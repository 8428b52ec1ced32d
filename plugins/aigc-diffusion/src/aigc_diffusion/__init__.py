"""Diffusion and flow matching for aigc-lightning."""
