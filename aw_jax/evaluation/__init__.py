"""Measures: one-step fidelity, baselines, the closed loop, and the report of a run."""
