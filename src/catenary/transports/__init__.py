"""Transports: how clients are connected to the node."""
