"""The operators by family: forward computation and derivative side by side."""
