"""Where the server listens, a TCP port or a Unix socket, and why it cannot."""

import errno
import os
import re
import socket
import stat
from pathlib import Path

from daphne.endpoints import build_endpoint_description_strings

UNIX = "unix:"
"""HOST begins with it for a Unix socket; its path follows."""

BACKLOG = 1024
"""The listen backlog. With Twisted's default of 50, further connections at the same moment wait a second or more."""

SOCKET_MODE = 0o660
"""Permissions of a Unix socket: the user and the group, of which the proxy must be a member."""


class CannotListen(Exception):
    """The server cannot listen. `str` is a sentence for the operator."""


def endpoint(host: str, port: int) -> str:
    """Where to listen, in Twisted's notation. Removes a Unix socket that a killed process has left.

    Raises CannotListen if a Unix socket cannot be created.
    """
    if not host.startswith(UNIX):
        return f"{build_endpoint_description_strings(host=host, port=port)[0]}:backlog={BACKLOG}"
    path = host.removeprefix(UNIX)
    remove_stale_socket(Path(path))
    quoted = re.sub(r"([\\:=])", r"\\\1", path)
    return f"unix:{quoted}:mode={SOCKET_MODE:o}:lockfile=0:backlog={BACKLOG}"


def open_socket(host: str, port: int) -> socket.socket:
    """Listen there, for processes that inherit the socket. Raises CannotListen if it cannot."""
    try:
        if host.startswith(UNIX):
            path = host.removeprefix(UNIX)
            remove_stale_socket(Path(path))
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            Path(path).chmod(SOCKET_MODE)
        else:
            name = host.strip("[]")
            family = socket.AF_INET6 if ":" in name else socket.AF_INET
            address = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)[0][4]
            listener = socket.socket(family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise CannotListen(explain(error, host, port)) from error
    listener.setblocking(False)
    return listener


def remove_stale_socket(path: Path) -> None:
    """Remove a Unix socket that no process listens on. Raises CannotListen if one does, or if it is another file."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CannotListen(f"{path} is in the way: it is not a socket. Move it away, or set HOST to another path.")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            if probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT):
                raise CannotListen(f"Another process listens on {path}, perhaps another Chatsite. Stop it first.")
        path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotListen(explain(error, f"{UNIX}{path}", 0)) from error


def explain(error: BaseException, host: str, port: int) -> str:
    """Why the server cannot listen there, and what to do, in a sentence. `error` is the system's or Twisted's."""
    cause = getattr(error, "socketError", error)
    number = getattr(cause, "errno", None)
    if host.startswith(UNIX):
        path = Path(host.removeprefix(UNIX))
        if not path.parent.is_dir():
            return f"There is no directory {path.parent} for the socket. Create it, or set HOST to another path."
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"The socket {path} cannot be created: the user has no permission to write to {path.parent}."
        return f"The socket {path} cannot be created: {cause}."
    if number == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is in use, perhaps by another Chatsite. "
            f"Stop that process (ss -ltnp 'sport = {port}' shows it), or set PORT to another number."
        )
    if number == errno.EACCES:
        return (
            f"Only root may listen on port {port}, as on all below 1024. "
            "Set PORT to a higher number, such as 8000, and put a web server with https in front."
        )
    if number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(cause, socket.gaierror):
        return (
            f"HOST is {host}, which is no address of this machine. Set it to 127.0.0.1, or to 0.0.0.0 or :: for all "
            "addresses."
        )
    return f"Chatsite cannot listen on {host}, port {port}: {os.strerror(number) if number else cause}."
