"""Configs and options: read, completed from presets and runs, checked, and explained when they are wrong."""
