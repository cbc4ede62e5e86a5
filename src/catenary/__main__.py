"""``python -m catenary`` is ``catenary``."""

from catenary.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
