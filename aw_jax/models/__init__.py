"""The decoder: one Flax module for training and for decoding with a cache."""
