"""Decisions without an application, and the choice of the application that decides."""
