"""The compiled forms of the tensor core's kernels; see `tensor/kernel_set.py`."""
