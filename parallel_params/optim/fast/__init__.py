"""The compiled forms of optimizer rules; see `tensor/kernel_set.py`."""
