"""Storage and pub/sub in the memory of this process, for a single node."""
