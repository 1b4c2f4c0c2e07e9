"""Language models: what their providers count, and what they ask for it."""
