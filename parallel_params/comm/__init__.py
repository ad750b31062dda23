"""Ranks that talk to each other: threads of one process, or processes under MPI."""
