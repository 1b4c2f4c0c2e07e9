"""The web admin: pages over the same functions as the API."""
