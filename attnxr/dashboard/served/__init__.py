"""The page that a server shows to its visitors, and the models that they share."""
