"""The price catalogue: what providers ask for tokens, calls, seconds and pages of their models, by date."""
