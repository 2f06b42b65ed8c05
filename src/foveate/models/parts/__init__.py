"""Pieces that several families share: salience, feature packing, positions."""
