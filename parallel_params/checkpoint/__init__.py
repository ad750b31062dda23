"""Checkpoints: training state on disk that any world can load, and none can lose."""
