"""The page of results: claims, figures, and where the numbers come from."""
