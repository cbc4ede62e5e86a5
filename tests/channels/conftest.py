"""Fixtures for channels."""

from collections.abc import Iterator

import pytest

from catenary import Cable
from catenary.channels.testing import TestCable
from tests.channels.room import Room, User


@pytest.fixture
def cable() -> Iterator[TestCable]:
    """Serves Room to a test."""
    served = TestCable(Cable(connection=User, channels=[Room]))
    yield served
    served.close()
