"""What every room needs to log text of others: escaping, and a limit on lines."""
