"""Changes that should not change an answer: marker style, codec, size, visual-token policy, option order, wording."""
