"""Attacks over real sockets on a real server, and a crowd that must not notice."""
