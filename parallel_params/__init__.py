"""Parameters sharded over MPI ranks, the way each `Parameter` says."""
