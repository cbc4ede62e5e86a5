"""Whether the Python underneath was compiled to be quick.

With profile-guided optimization the same work costs a sixth to a fourth less. Whoever compiles Python
without asking for it (``--enable-optimizations``) does not get it: pyenv does not ask. Distributions,
python.org, Docker's images, Homebrew, conda and uv do.
Source: docs.python.org, "Configure Python", performance options. Knows: how Python was configured.
Does not know: what runs on it.
"""

import sys
import sysconfig
from typing import Final

_ASKED_FOR: Final = "--enable-optimizations"
_DISTRIBUTIONS: Final = "/usr"
"""Where their Pythons live. Debian's does not tell of its optimization in its configuration."""


def is_optimized() -> bool:
    """Was it compiled with profile-guided optimization, as far as it can tell?"""
    if sys.base_prefix == _DISTRIBUTIONS:
        return True
    arguments: str | None = sysconfig.get_config_var("CONFIG_ARGS")
    return arguments is None or _ASKED_FOR in arguments  # on Windows there are none, and it is
