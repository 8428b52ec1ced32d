"""Watermarks for aigc-lightning: a payload of a few bits in the pixels of a picture."""
