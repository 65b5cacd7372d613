"""Ways to vocabulary encodings, and the proof that they are the model's own."""
