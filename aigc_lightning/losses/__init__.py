"""Losses as plain functions of tensors."""
