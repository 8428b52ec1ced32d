"""The models that `aigc fit` trains: one file, one LightningModule."""
