"""Listening sockets: addresses to bound sockets, with what their connections inherit."""

import contextlib
import errno
import os
import shutil
import socket
import stat
import sys
from pathlib import Path

BACKLOG = 65_535
"""Connections that may wait to be accepted; the system takes what it allows (on Linux net.core.somaxconn)."""

UNSENT = 32 * 1024
"""Bytes that may wait in the kernel to be sent: they cannot be conflated, and are old by the time they go."""

LONGEST_RETRY = 1_000
"""Milliseconds between two tries of the kernel to send what was not acknowledged.

A client that stalls with a small buffer drops what it cannot hold, and the waits between the tries double, up to two
minutes: so long it would see nothing after it reads again.
"""

TCP_RTO_MAX_MS = 44
"""Linux 6.15 and newer; no version of Python names it yet."""


class BindError(OSError):
    """An address that cannot be listened on; the text says which and why."""


def listen(binds: list[str], write_deadline: int = 60, *, mode: int = 0o660, group: str = "") -> list[socket.socket]:
    """Sockets for `HOST:PORT` addresses, on each address the host has, and for `unix:/path`. Raises BindError.

    `write_deadline`: seconds after which the kernel gives up a connection that takes nothing. `mode` and `group` are
    those of Unix sockets.
    """
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            path = bind.removeprefix("unix:")
            sockets += _listen(bind) if path == bind else [_listen_unix(path, mode, group)]
        for opened in sockets:
            _prepare(opened, 1000 * write_deadline)
    except OSError:
        close(sockets)
        raise
    return sockets


def close(sockets: list[socket.socket]) -> None:
    """Closes sockets, and takes away the paths of those that have one."""
    for opened in sockets:
        path = opened.getsockname() if opened.family not in {socket.AF_INET, socket.AF_INET6} else ""
        opened.close()
        if path:
            Path(path).unlink(missing_ok=True)


def _listen_unix(path: str, mode: int, group: str) -> socket.socket:
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise BindError(f"unix:{path}: there are no Unix sockets here")
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        _clear(path, family)
        before = os.umask(0o777 & ~mode)  # from the first moment on
        try:
            opened.bind(path)
        finally:
            os.umask(before)
        if group:
            shutil.chown(path, group=group)
        opened.listen(BACKLOG)
    except (OSError, LookupError) as error:
        opened.close()
        if isinstance(error, BindError):
            raise
        raise BindError(f"unix:{path} cannot be bound: {getattr(error, 'strerror', None) or error}") from None
    return opened


def _clear(path: str, family: int) -> None:
    """Takes away what a gateway left that was killed; never what is in use, or no socket."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise BindError(f"unix:{path} is there, and no socket")
    with socket.socket(family, socket.SOCK_STREAM) as other:
        if other.connect_ex(path) != errno.ECONNREFUSED:
            raise BindError(f"unix:{path} is taken")
    Path(path).unlink()


def _listen(bind: str) -> list[socket.socket]:
    host, colon, port_text = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port_text.isdecimal() or int(port_text) > 65_535:
        raise BindError(f"{bind!r} is not HOST:PORT")
    port = int(port_text)
    found: list[socket.socket] = []
    trouble: OSError | None = None
    for family, address in _addresses(host, bind):
        try:
            opened = _open(family, address, port)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # no IPv6 here, or no IPv4
                trouble = error
                continue
            for other in found:
                other.close()
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror}"
            raise BindError(f"{bind} {reason}") from None
        found.append(opened)
        port = opened.getsockname()[1]  # port 0: the same one on both families
    if not found:
        raise BindError(f"{bind} cannot be bound: {trouble.strerror if trouble else 'no such address'}")
    return found


def _addresses(host: str, bind: str) -> list[tuple[socket.AddressFamily, str]]:
    if host == "localhost":  # some systems list only one of them, and Node.js takes the other
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise BindError(f"{bind}: there is no host {host!r}") from None
    return list(dict.fromkeys((row[0], str(row[4][0])) for row in rows))


def _open(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(BACKLOG)  # tells now whether another one listens there
    except OSError:
        opened.close()
        raise
    return opened


def _prepare(opened: socket.socket, deadline: int) -> None:
    """Sets what TCP connections inherit, where the system has it."""
    if opened.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    for option, value in (
        (getattr(socket, "TCP_NOTSENT_LOWAT", None), UNSENT),
        (getattr(socket, "TCP_USER_TIMEOUT", None), deadline),  # clients that vanished without a word
        (TCP_RTO_MAX_MS if sys.platform == "linux" else None, LONGEST_RETRY),
    ):
        if option is not None:
            with contextlib.suppress(OSError):  # an older kernel
                opened.setsockopt(socket.IPPROTO_TCP, option, value)
