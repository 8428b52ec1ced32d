"""What `aigc fit`, `validate`, `test` and `predict` are made of."""
