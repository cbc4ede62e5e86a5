"""What lives as long as the server: tasks that are watched, pauses between attempts, ticks."""
