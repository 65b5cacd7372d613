"""The door into a model, where things are in it, and forward passes that collect what its heads write."""
