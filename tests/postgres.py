"""A real PostgreSQL server of its own on a free loopback port, for tests that a stand-in could not convince.

It serves databases with passwords as a server elsewhere would, and can be stopped, killed and started again. It takes
half a second to make, so it is made once a session; what is thrown away afterwards need not reach the disk, hence
``fsync=off``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

USER, PASSWORD = "hpo", "loop back/of:tests@1"  # with characters that a URL has to escape
ESCAPED_PASSWORD = "loop%20back%2Fof%3Atests%401"
UNPRIVILEGED = ("postgres", "nobody")
# Commits stay synchronous: a server that is killed must keep what it confirmed, as a real one does.
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = off
full_page_writes = off
"""


def find_binaries() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``: Debian's newest, or wherever PATH has them; None if there are none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: float(file.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@dataclass
class Postgres:
    """One server: ``start`` it, make databases, ``stop`` it at the end; its folder goes with ``remove``."""

    binaries: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="hpo-postgres-")))
    port: int = field(default_factory=lambda: free_port())

    def start(self) -> None:
        """Start the server, at the port and with the data that it had before, and wait until it answers."""
        if not self._data.exists():
            self._initialise()
        self._run("pg_ctl", "start", "--wait", "--silent", "--timeout=60", "--log", str(self.folder / "log"))

    def stop(self, immediately: bool = False) -> None:
        """Stop the server: its clients are disconnected; ``immediately`` is a crash, from which a start recovers."""
        self._run("pg_ctl", "stop", "--wait", "--silent", f"--mode={'immediate' if immediately else 'fast'}")

    def restart(self) -> None:
        """Stop and start: every connection breaks, nothing is lost."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Delete the data of a stopped server."""
        shutil.rmtree(self.folder)

    @property
    def running(self) -> bool:
        """Whether the server accepts connections."""
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database, driver and password included."""
        return f"postgresql+psycopg://{USER}:{ESCAPED_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its ``url``. Raises psycopg's DuplicateDatabase when it exists."""
        address = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
        with psycopg.connect(**address, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _initialise(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if owner := self._owner():
            for path in (self.folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb", f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale=C", "--no-sync",
        )  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS.format(port=self.port))

    def _run(self, program: str, *arguments: str) -> None:
        owner = self._owner()
        command = [str(self.binaries / program), *arguments, "--pgdata", str(self._data)]
        identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
        # Neither in the folder of a caller that the server's user may not enter, nor under root's HOME.
        environment = {**os.environ, "HOME": str(self.folder), "LC_ALL": "C"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, text=True, capture_output=True, check=False, **identity
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}")

    @staticmethod
    def _owner() -> pwd.struct_passwd | None:
        """The user to run as where we are root, which PostgreSQL refuses; None where we are not."""
        if os.geteuid() != 0:
            return None
        users = {user.pw_name: user for user in pwd.getpwall()}
        return next(users[name] for name in UNPRIVILEGED if name in users)


def free_port() -> int:
    """A loopback port on which no server listens at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
