"""Sub-commands of `aigc job`, one file each."""
