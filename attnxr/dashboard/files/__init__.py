"""What a visitor takes away: tables, Datasets, and a page of its own."""
