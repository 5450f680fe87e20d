"""Audit a run from its files, without the model: does everything follow from what was recorded?"""
