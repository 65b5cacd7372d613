"""What the library costs: suites for asv, and the comparison with other ways to the same answer (compare.py)."""
