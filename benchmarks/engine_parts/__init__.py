"""Parts of the engine's benchmark (`benchmarks/engine.py`): workload, arms, figures."""
