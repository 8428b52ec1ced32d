"""Explanations of what models see, draw and remember."""
