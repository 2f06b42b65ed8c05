"""The recipe of fovea-nano, the small VLM that ships in the package: tokenizer, model, batches, loop, export."""
