"""Protocols as bytes: pure functions and state machines, no sockets, no clocks."""
