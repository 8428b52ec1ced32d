"""The local web page: `aigc ui`."""
