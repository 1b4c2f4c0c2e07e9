"""SQL and nothing else: reads return core values, writes take them."""
