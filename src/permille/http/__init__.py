"""HTTP that the API, the web admin and the intake of events share: bodies, refusals, sentences."""
