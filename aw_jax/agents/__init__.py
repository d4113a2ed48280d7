"""Agents: language policies, the worlds they play in, and their training."""
