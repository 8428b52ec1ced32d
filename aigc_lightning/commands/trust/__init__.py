"""Sub-commands of `aigc trust`."""
