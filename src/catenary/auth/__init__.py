"""Keys, tokens, signatures and origins. Pure; secrets are compared in constant time."""
