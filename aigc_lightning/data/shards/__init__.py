"""Data from tar shards in WebDataset's format."""
