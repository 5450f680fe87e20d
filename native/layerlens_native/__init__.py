"""Kernels of LayerLens in Cython, each with a pure-Python twin that gives the same answers.

Set ``LAYERLENS_PURE=1`` before the first import to use the twins.

`threshold` and `knapsack` take plain numbers and never import torch. `gradient_sums` does: its arguments are tensors,
whose memory the kernel reads and writes in place, and its twin is made of torch's own operations, since plain Python
would be far too slow. Nothing else here imports torch, so that planning alone does not.
"""
