"""Scores of images: networks that describe them, banks of descriptions, and where their weights come from."""
