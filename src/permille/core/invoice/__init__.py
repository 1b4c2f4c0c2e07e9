"""The invoice and what is on it: taxes, credits, late usage."""
