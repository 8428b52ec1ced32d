"""The built-in models, one file each. No model imports another."""
