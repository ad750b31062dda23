"""Layers, one family per module; import them from `parallel_params.nn`."""
