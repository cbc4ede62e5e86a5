"""The page of all options, as it stands in the documentation."""

from catenary.config.render import markdown


def page() -> str:
    """The content of docs/options.md."""
    return f"""# Options

Drawn from `config/options.py` by `make docs`. *Reload*: a running server applies a new value in its configuration file when it
receives SIGHUP; the other options need a restart.

{markdown()}"""


if __name__ == "__main__":
    print(page(), end="")
