"""Training of a model that comments on streams: frames seen once, overlapped chunks, the language model alone."""
