"""The page of results: claims, figures, and the sources of the numbers."""
