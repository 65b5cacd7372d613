"""Answers and what follows from them, computed beside the event loop and kept while there is room."""
