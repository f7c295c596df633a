"""`python -m service batch`: classify files by the million, on the engine that serves requests too."""
