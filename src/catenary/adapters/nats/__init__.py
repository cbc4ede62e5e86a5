"""NATS, by a client of our own; the extra ``nats`` brings the server for embedded NATS."""
