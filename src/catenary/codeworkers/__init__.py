"""Runs application code in separate processes, which are replaced while clients stay connected."""
