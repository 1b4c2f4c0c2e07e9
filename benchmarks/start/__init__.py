"""How long `permille up` takes to start again, and what it takes of memory while nothing happens."""
