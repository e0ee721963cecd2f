"""The program of our Prefect servers: it takes its port first, and serves Prefect behind the gate.

`python -m flows.serve --port N` serves on a loopback port. `python -m flows.serve --fd N` serves on a socket that its
parent has bound, and starts the server again when it dies: a small process holds the socket all the time, so that
nobody else can take the port while workers ask it what to run.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time

_SHORT_SECONDS = 60.0
"""A server that ends sooner than this is not started again."""


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int)
    where.add_argument("--fd", type=int)
    known = parser.parse_args()
    if known.fd is None:
        _serve(listen(known.port))
    else:
        sys.exit(_keep_serving(socket.socket(fileno=known.fd)))


def listen(port: int) -> socket.socket:
    """A socket that listens on a port of the loopback address; any free one for 0.

    Raises
    ------
    OSError
        If the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _keep_serving(listener: socket.socket) -> int:
    """Serve in a child, and in a new one when it dies; the last exit status."""
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    while True:
        born, parent, child = time.monotonic(), os.getpid(), os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
            _serve(listener)
            sys.exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ending.is_set() or time.monotonic() - born < _SHORT_SECONDS:
            return abs(status)
        sys.stderr.write(f"the Prefect server ended with status {status} and is started again\n")
        sys.stderr.flush()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _serve(listener: socket.socket) -> None:
    import prefect
    import uvicorn
    from prefect.server.api.server import create_app

    from flows.guard import Guard
    from flows.secret import SERVER

    prefect.__ui_v2_static_path__ = prefect.__module_path__ / "no-such-page"  # it asks a host elsewhere on every view
    config = uvicorn.Config(
        Guard(create_app(), os.environ[SERVER]),
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
