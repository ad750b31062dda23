"""The arithmetic of the optimizers, one file per family; no parameters, no ranks."""
