"""Whose rows are whose: how samples share a batch, established on the model before anything is measured."""
