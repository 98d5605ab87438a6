"""Weights: checkpoints in the formats others write, read without torch; published networks."""
