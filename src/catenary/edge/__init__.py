"""Where connections come in: what is asked for, who is let in, and who serves it."""
