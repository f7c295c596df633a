"""POST /v1/digits: images of handwritten digits."""
