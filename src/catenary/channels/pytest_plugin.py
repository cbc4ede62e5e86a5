"""The pytest plugin: a fixture ``cable``, which is a :class:`catenary.channels.testing.TestCable`.

It serves the cable that the ini option ``catenary_cable`` names (``chat.cable:cable``), or that a fixture
``catenary_cable`` returns. It works with every plugin that runs async tests.
"""

from collections.abc import Iterator

import pytest

from catenary.channels.cable import Cable
from catenary.channels.loading import load
from catenary.channels.testing import TestCable

OPTION = "catenary_cable"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the ini option."""
    parser.addini(OPTION, "the cable that the fixture `cable` serves: module:name")


@pytest.fixture
def catenary_cable(request: pytest.FixtureRequest) -> Cable:
    """The application's cable."""
    where = str(request.config.getini(OPTION))
    if not where:
        pytest.fail(f"expected {OPTION} = module:name in pytest's configuration, or a fixture")
    return load(where)


@pytest.fixture
def cable(catenary_cable: Cable) -> Iterator[TestCable]:
    """The application's cable, served to one test."""
    served = TestCable(catenary_cable)
    yield served
    served.close()
