"""The clients that people use, on Node, against a running server."""
