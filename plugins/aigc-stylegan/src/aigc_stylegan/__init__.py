"""StyleGAN2 and progressive growing for aigc-lightning."""
