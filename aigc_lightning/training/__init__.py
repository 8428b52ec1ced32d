"""The implementation of `aigc fit`, `validate`, `test` and `predict`."""
