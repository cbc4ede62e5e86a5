"""Skips or fails a test that needs a program which is not on this machine."""

import os
from typing import NoReturn

import pytest


def missing(part: str, remedy: str) -> NoReturn:
    """Skips the test and names the remedy; with ``CI=true``, where every part must exist, fails it."""
    message = f"{part} is missing: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
