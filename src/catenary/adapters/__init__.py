"""Storage, pub/sub and sources of publications: one package for each external system."""
