"""The vocabulary: values that are passed between the rooms, without behaviour of their own."""
