"""Parts of the server's benchmark (`benchmarks/serve.py`): load generator, servers, the bare engine, figures."""
