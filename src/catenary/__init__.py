"""Catenary: an AnyCable-compatible realtime server."""

__version__ = "0.1.0"
