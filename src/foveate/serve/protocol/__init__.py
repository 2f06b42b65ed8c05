"""The API's requests and replies as pydantic models: what a client may send, and what it gets.

Owns shapes, types and ranges. Knows no engine; what a field does is in `foveate.serve.sampling` and `prompts`.
"""
