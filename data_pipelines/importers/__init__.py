"""Public traces of agents as trajectories of our schema: one module a format, one way to clean."""
