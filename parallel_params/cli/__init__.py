"""The command line `pparams`, and how it starts worlds of ranks."""
