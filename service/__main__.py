"""`python -m service`: serve the models of a store. `python -m service stream`: be a client of that.
`python -m service doctor`: say whether a server would run well. `python -m service batch`: classify files.
"""

from __future__ import annotations

import os
import signal
import sys

import structlog

from service import doctor, files, keys, logs, variables
from service.app import create_app
from service.batch import command as batch
from service.client import stream as client
from service.engine import DeviceError, StoreError
from service.http.keys import KeyFileError
from service.server import Server, StartError, listen
from service.settings import Settings
from service.telemetry.tracing import TracingError

log = structlog.get_logger("service")


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["batch"]:
        sys.exit(batch.main(sys.argv[2:]))
    if sys.argv[1:2] == ["doctor"]:
        sys.exit(doctor.main(sys.argv[2:]))
    if sys.argv[1:2] == ["keys"]:
        sys.exit(keys.main(sys.argv[2:]))
    if sys.argv[1:2] == ["stream"]:
        sys.exit(client.main(sys.argv[2:]))
    serve()


def serve() -> None:
    """Serve until SIGINT or SIGTERM, finish the running requests, and exit with status 0.

    Exits with 2 on bad settings, and with 1 when an artifact is broken, the address is taken, or the system
    lacks what else is needed, after one line that says so.
    """
    # For before the server takes over the signals, and after it has finished, when it repeats the one it got.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    settings = Settings.from_command_line(sys.argv[1:])
    logs.configure(settings.log_format, settings.log_level)
    variables.warn(os.environ, Settings.model_fields)
    files.allow(settings.max_connections)
    try:
        app = create_app(settings)
        listener = listen(settings.host, settings.port)
    except (StoreError, DeviceError, KeyFileError, TracingError, OSError) as error:
        log.error("cannot start", reason=str(error))
        sys.exit(1)
    app.state.engine.repository.announce()
    try:
        with listener:
            Server(app, settings).run(sockets=[listener])
    except StartError as error:
        log.error("cannot start", reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
