"""The vocabulary: values that travel between the rooms. They do nothing but know their own shape."""
