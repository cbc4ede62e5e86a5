"""Histories, sessions and presence as data structures in memory. The time is an argument."""
