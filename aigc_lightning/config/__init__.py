"""Configs and options: reading, completing from presets and runs, checking, and explaining errors."""
