"""chDB behind ClickHouse's native protocol, for laptops and tests only: python -m orgstats.deploy.local.chdb_server."""

import argparse
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

PASSWORD_VARIABLE = "ORGSTATS_CHDB_PASSWORD"  # noqa: S105  # the variable's name


def main() -> int:
    """Serves until SIGTERM or SIGINT; running statements finish. A second signal ends it at once."""
    options = _parser().parse_args()
    password = os.environ.pop(PASSWORD_VARIABLE, "")
    stop = threading.Event()
    os.environ["TZ"] = "UTC"  # before the engine looks: a server in a container runs in UTC too

    from orgstats.deploy.local.chdb_server.engine import Engine, EngineError
    from orgstats.deploy.local.chdb_server.server import Server

    try:
        engine = Engine(options.path)
        server = Server(engine, options.host, options.port, user=options.user, password=password)
    except (EngineError, OSError) as error:
        print(f"chdb_server: {error}", file=sys.stderr)
        return 69
    _on_signals(stop)
    server.start()
    _tell({"host": options.host, "port": server.port, "pid": os.getpid()}, options.ready_file)
    if options.stop_with_stdin:
        threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    stop.wait()
    server.drain()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chdb_server", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="directory of the data; made when missing")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; loopback unless told")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--user", default="default", help=f"the one user; password in {PASSWORD_VARIABLE}")
    parser.add_argument("--ready-file", type=Path, help="where the line on stdout is written as well")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when stdin ends")
    return parser


def _on_signals(stop: threading.Event) -> None:
    """SIGTERM and SIGINT set `stop`, a second one ends the process.

    The kernel may hand a signal to one of the engine's threads; the main thread, waiting, would not notice.
    What Python does in any thread is to write the signal's number to the wake-up descriptor.
    """
    arrived, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.fileno())
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    threading.Thread(target=_obey, args=(arrived, written, stop), daemon=True).start()


def _obey(arrived: socket.socket, _kept_open: socket.socket, stop: threading.Event) -> None:
    while signum := arrived.recv(1):
        if stop.is_set():
            os._exit(128 + signum[0])
        stop.set()


def _watch_stdin(stop: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    stop.set()


def _tell(ready: dict[str, object], ready_file: Path | None) -> None:
    line = json.dumps(ready)
    if ready_file:
        partial = ready_file.with_name(ready_file.name + ".partial")
        partial.write_text(line + "\n")
        partial.replace(ready_file)
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
