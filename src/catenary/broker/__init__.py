"""What a broker remembers, as plain data structures: every method that needs the time is told it."""
