"""What clients and applications speak: bytes ↔ the vocabulary of ``messages``. Pure."""
