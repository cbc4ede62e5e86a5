"""Publishers for processes that do not run the server: over HTTP, Redis and NATS."""
