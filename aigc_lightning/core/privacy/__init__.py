"""Training with differential privacy: how much is spent, which samples a step takes, and its noisy gradient."""
