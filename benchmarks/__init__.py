"""Scripts that make the figures in docs/: run as ``python -m benchmarks.<name>``."""
