"""Data from tar shards, as WebDataset has them."""
