"""Editors without training: classical methods, and networks of other projects."""
