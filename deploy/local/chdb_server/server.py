"""The listening socket and the threads behind it, one for each client."""

import socket
import threading
from contextlib import suppress
from typing import Final

from deploy.local.chdb_server.engine import Engine
from deploy.local.chdb_server.session import Session

BACKLOG: Final = 256


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

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        self._accepting.start()

    def drain(self) -> None:
        """Stops accepting, lets running statements finish, ends all sessions; returns when they have."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake the accepting thread
        self._listener.close()
        self._accepting.join()
        with self._lock:
            sessions = dict(self._sessions)
        for session in sessions:
            session.drain()
        for thread in sessions.values():
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
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
