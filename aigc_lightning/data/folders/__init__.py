"""Data from folders of image files."""
