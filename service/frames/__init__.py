"""POST /v1/frames: recordings, frame by frame."""
