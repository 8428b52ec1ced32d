"""The commands `aigc evaluate` and `aigc compare`."""
