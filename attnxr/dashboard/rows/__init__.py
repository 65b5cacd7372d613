"""What the views show, as plain lists and strings."""
