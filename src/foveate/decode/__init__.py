"""Decoding strategies: which tokens are tried ahead of the model, and which of them stay.

Knows no requests, no scheduling and no paged cache: the engine runs what is proposed here and asks what to keep.
"""
