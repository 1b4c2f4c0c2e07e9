"""Simulated years of customers, and what each of them owes, worked out a second time from the list of what was done.

`script` makes a list of actions from a seed, `product` does them over the API, `oracle` does the sums of the specification
(docs/semantics) in fractions, and `play` compares the two after each action. Nothing here but `product` knows the source.
"""
