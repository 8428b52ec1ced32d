"""Pixel models, image tokenizers and transformers over tokens for aigc-lightning."""
