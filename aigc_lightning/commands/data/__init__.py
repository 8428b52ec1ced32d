"""Sub-commands of `aigc data`, one file each."""
