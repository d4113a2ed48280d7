"""Rewards of a world model: rule verifiers, the reference judge, and their combination."""
