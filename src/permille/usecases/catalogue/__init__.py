"""What an organization sells: metrics, plans, prices, customers."""
