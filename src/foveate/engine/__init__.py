"""Requests in, tokens out: scheduling, paged cache, batching, sampling. Knows no HTTP and no family's details."""
