"""Runnable experiments: absl mains that read flags and call the library."""
