"""Programs that run a trained model without it: traced, written, and compared with the model by another runtime."""
