"""The assembly: knows everybody; nobody knows it."""
