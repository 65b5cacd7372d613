"""From what a user gives, a text, a chat or token ids, to the tokens that a model is run on."""
