"""Data: what is shipped, readers of files, and in which order samples come."""
