"""Redis, by redis-py: the extra ``redis``."""
