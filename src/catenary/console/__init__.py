"""The console: pages that show a running server, for people. See docs/console.md."""
