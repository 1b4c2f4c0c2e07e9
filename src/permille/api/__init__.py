"""The Lago-compatible HTTP API. Handlers parse, call one function, and render."""
