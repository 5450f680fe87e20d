"""Compiled kernels of LayerLens, each with a pure-Python twin that gives the same answers.

Set ``LAYERLENS_PURE=1`` before the first import to use the twins.
"""
