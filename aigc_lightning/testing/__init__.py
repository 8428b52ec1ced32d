"""The conformance kit: what every registered model must do."""
