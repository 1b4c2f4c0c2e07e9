"""The contract: plans, subscriptions, and what is due when."""
