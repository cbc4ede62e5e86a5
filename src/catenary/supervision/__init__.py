"""Long-lived tasks and their supervision, backoff for retries, periodic calls."""
