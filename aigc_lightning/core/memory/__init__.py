"""Training steps in less memory: micro-batches, activations that are computed again, sharded networks."""
