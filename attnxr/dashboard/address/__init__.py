"""The page's address: what is shown, as a query, and back."""
