"""What trained models are used for: samples, edits and walks, for commands, plugins and notebooks alike."""
