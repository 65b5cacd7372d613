"""Exact search, arrays only: an integer screen, exact settling, blocks and tables of the vocabulary."""
