"""Codecs of client protocols and RPC: bytes ↔ the vocabulary of ``messages``. Pure."""
