"""The views: each follows a State and draws what rows and plots say of it."""
