"""Exit with 0 if the service in this container is ready, with 1 if not: the images' health check."""

import http.client
import os
import sys

try:
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["MOMENTUM_PORT"]), timeout=2)
    connection.request("GET", "/v2/health/ready")
    answer = connection.getresponse()
    print(answer.status, answer.read(1000).decode(errors="replace"))
    sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"no answer: {error}")
