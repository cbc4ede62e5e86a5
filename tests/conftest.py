"""How properties are tested: any machine may be slow, and CI always tries the same examples."""

import os

from hypothesis import settings

settings.register_profile(
    "catenary", max_examples=100, deadline=None, derandomize="CI" in os.environ
)
settings.load_profile("catenary")
