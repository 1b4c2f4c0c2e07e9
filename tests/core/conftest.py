import os

from hypothesis import settings

# Nothing here is timed: a busy machine must not fail a test. `quick` is for `make check`.
settings.register_profile("permille", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "permille"))
