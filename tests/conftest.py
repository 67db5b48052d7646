"""Settings of every test: property tests draw the same examples each time, and no clock fails one."""

from hypothesis import settings

settings.register_profile("fedkt", deadline=None, derandomize=True)
settings.load_profile("fedkt")
