"""The ways to a client. Each speaks to the node alone."""
