"""The `aigc` commands, which depend on capabilities and never on a model class."""
