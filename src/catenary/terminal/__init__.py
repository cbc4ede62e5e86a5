"""Tools for the shell: to publish, to listen, to ask, to sign, to measure, to begin a project."""
