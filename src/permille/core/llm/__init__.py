"""Usage of language models: a provider's answer becomes parts that never overlap and add up to its totals."""
