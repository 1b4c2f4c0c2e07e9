from hypothesis import settings

# Nothing here is timed: a busy machine must not fail a test.
settings.register_profile("permille", deadline=None)
settings.load_profile("permille")
