"""Datasets that a first stage has encoded once, so that training need not do it again."""
