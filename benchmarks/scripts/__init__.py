"""What runs in a process of its own, started by `benchmarks._processes`."""
