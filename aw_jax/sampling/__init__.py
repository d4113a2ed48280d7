"""Jitted prefill and decode over a cache."""
