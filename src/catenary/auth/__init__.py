"""Who may: keys, signatures, origins. Pure, and in constant time where secrets are compared."""
