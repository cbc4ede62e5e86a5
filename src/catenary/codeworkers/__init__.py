"""The application's code in processes of its own, which are replaced while clients stay connected."""
