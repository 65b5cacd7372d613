"""What one visitor's page shows, and what it is asked and answered; no Panel."""
