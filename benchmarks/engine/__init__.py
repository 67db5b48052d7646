"""How fast and how large the engine is: ``python -m benchmarks.engine``, for docs/performance.md."""
