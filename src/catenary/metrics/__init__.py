"""What is counted, and how it is shown. Counting is a plain addition: no locks, no labels."""
