"""Usage of subscriptions: running, past, by day, estimated, explained."""
