"""Samples: the digits inside the package, .npz files, and in which order they come."""
