"""Sub-commands of `aigc plugins`, one file each."""
