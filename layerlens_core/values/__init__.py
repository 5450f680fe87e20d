"""The frozen records that flow from one step to the next: plain data, no tensors."""
