"""What all of the HTTP API shares: middleware, problems, uploads, probes."""
