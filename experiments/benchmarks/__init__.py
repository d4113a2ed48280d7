"""What experiments/benchmark.py and experiments/benchmark_gpu.py measure, and how."""
