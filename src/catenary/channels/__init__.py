"""What an application author writes with: Connection, Channel, Cable. Needs no server, only msgspec."""
