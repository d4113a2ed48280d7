"""Agents inside the world model: the jitted two-model rollout, and the imagined environment."""
