"""Networks that know nothing of training."""
