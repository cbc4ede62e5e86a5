"""What publications and state travel through: one outside thing each."""
