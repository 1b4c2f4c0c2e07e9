"""OpenTelemetry traces: which spans are calls of a model, what they used, and who pays."""
