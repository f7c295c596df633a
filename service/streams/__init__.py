"""WS /v1/frames/stream: live audio."""
