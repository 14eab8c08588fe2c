"""Speed, memory and accuracy beside other detectors, in one run: ``python -m benchmarks``."""
