"""Builds, checks and tags releases: ``make release``. Not a part of the package."""
