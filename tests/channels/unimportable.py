"""A module that raises an exception at its import."""

raise ZeroDivisionError
