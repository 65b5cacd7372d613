"""What benchmarks/app.py is made of."""
