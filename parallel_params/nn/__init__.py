"""Parameters, cells and layers."""
