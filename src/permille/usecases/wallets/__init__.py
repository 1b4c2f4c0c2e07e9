"""Prepaid credits: wallets, what fills and empties them, and the rules that fill them by themselves."""
