"""Networks of the models: plain modules that know nothing of training."""
