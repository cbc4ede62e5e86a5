"""Safe logging of text from clients and publishers: escaping, and a limit on the rate of lines."""
