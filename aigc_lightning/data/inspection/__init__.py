"""Data inspection: unreadable files, duplicates, and class balance."""
