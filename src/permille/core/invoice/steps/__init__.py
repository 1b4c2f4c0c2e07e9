"""The steps that make an invoice, one a file: pure functions from a draft and facts to a draft."""
