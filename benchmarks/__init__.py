"""Speed and memory, measured: `python -m benchmarks` lists what there is."""
