"""The heart: what happens to clients, commands and publications, in order. Start with ``node.py``."""
