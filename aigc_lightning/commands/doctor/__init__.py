"""Sub-commands of `aigc doctor`, one file each."""
