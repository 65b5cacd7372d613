"""One question about a Dataset: checked, answered as arrays, or as slices that are computed when asked for."""
