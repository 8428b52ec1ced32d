"""One `aigc` command each; they depend on capabilities, never on a model class."""
