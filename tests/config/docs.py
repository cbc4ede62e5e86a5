"""The page of all options, as it stands in the documentation."""

from catenary.config.render import markdown


def page() -> str:
    """The content of docs/options.md."""
    return f"# Options\n\nDrawn from `config/options.py` by `make docs`.\n\n{markdown()}"


if __name__ == "__main__":
    print(page(), end="")
