"""The SDK for applications in Python: Connection, Channel, Cable. Needs no server, only msgspec."""
