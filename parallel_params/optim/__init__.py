"""Optimizers: rules on flat slices, and the cells that bind them to parameters."""
