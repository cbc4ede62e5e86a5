"""Shell tools: publish, subscribe, read presence and history, sign, generate load, create a project."""
