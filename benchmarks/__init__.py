"""What ampstore costs beside its peers: `python -m benchmarks`, and README.md for how to read it."""
