"""Evaluation of images: feature extractors and their weights, feature banks, scores and receipts."""
