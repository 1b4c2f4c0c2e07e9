"""The invoice run over a hundred thousand subscriptions that are due at once."""
