"""The benchmark: `python -m bench`. Needs Linux, for what it reads under /proc."""
