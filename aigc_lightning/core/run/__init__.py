"""A run: its folder, log and lock, its processes and signals, and where its loops stand."""
