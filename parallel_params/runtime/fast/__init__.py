"""The compiled forms of the runtime's loops; see `tensor/kernel_set.py`."""
