"""Scores as plain functions of images or features."""
