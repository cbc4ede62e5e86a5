"""What is asked over HTTP, by applications and operators."""
