"""Inside this process: for one node, with nothing to install."""
