"""What is in data: bad files, duplicates, and the balance of classes."""
