"""`python -m service stream`: a client for live audio."""
