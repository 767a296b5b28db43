"""The same examples in every run: a failure is one of the change, and stays until it is mended."""

from hypothesis import settings

settings.register_profile("same", derandomize=True, print_blob=True)
settings.load_profile("same")
