"""The counters, the registry of figures, and the text format of Prometheus. Counting is a plain addition."""
