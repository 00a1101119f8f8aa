"""The listening socket and the threads behind it, one for each client."""

import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import Final

from orgstats.deploy.local.chdb_server.engine import Engine
from orgstats.deploy.local.chdb_server.session import Session

BACKLOG: Final = 256
WATCH_SECONDS: Final = 1.0
ACCEPT_AGAIN_SECONDS: Final = 0.1


class Server:
    """Accepts clients until it is drained."""

    def __init__(self, engine: Engine, host: str, port: int, *, user: str, password: str) -> None:
        """Binds at once; port 0 picks a free one. Raises OSError."""
        self._engine = engine
        self._account = (user, password)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._sessions: dict[Session, threading.Thread] = {}
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._watching = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._stopping, self._drained = threading.Event(), threading.Event()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        self._accepting.start()
        self._watching.start()

    def drain(self) -> None:
        """Stops accepting, lets running statements finish, ends all sessions and closes the engine."""
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake the accepting thread
        self._listener.close()
        self._accepting.join()
        sessions = self._now()
        for session in sessions:
            session.drain()
        for thread in sessions.values():
            thread.join()
        self._drained.set()
        self._watching.join()
        self._engine.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # drained, or out of descriptors for the moment
                if self._stopping.wait(ACCEPT_AGAIN_SECONDS):
                    return
                continue
            session = Session(connection, self._engine, *self._account)
            thread = threading.Thread(target=self._serve, args=(session,), daemon=True)
            with self._lock:
                self._sessions[session] = thread
            thread.start()

    def _serve(self, session: Session) -> None:
        try:
            session.run()
        finally:
            with self._lock:
                del self._sessions[session]

    def _watch(self) -> None:
        """Once a second: tells clients of long statements that they are heard, kills what nobody waits for."""
        while not self._drained.wait(WATCH_SECONDS):
            for session in self._now():
                if tag := session.watch(monotonic() - WATCH_SECONDS):
                    self._engine.kill(tag)

    def _now(self) -> dict[Session, threading.Thread]:
        with self._lock:
            return dict(self._sessions)
