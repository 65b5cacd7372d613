"""Analyses: one a file, Dataset in, Dataset out."""
