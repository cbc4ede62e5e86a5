"""The heart: sessions, their commands and publications, in order. Start with ``node.py``."""
