"""All engines of the suite. Knows: names."""

from typing import Final

from tests.faults.engines import SINGLE
from tests.faults.replicated_redis import REPLICATED

ENGINES: Final = SINGLE | REPLICATED
