"""The assembly of a server from all rooms. It may import every room; only the command line imports it."""
