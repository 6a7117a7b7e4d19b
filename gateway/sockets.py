"""Listening sockets: addresses to bound sockets, with what their connections inherit."""

import contextlib
import errno
import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Iterable
from ipaddress import ip_address
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


INHERITED = "fd:"
"""What stands before the number of a socket that somebody else has made, such as systemd."""


class BindError(OSError):
    """An address that cannot be listened on; the text says which and why."""


def listen(binds: list[str], write_deadline: int = 60, *, mode: int = 0o660, group: str = "") -> list[socket.socket]:
    """Sockets for `HOST:PORT` addresses, on each address the host has, for `unix:/path`, and for `fd:N`: one that this
    process was started with, and that listens already. Raises BindError.

    `write_deadline`: seconds after which the kernel gives up a connection that takes nothing. `mode` and `group` are
    those of Unix sockets.
    """
    sockets: list[socket.socket] = []
    try:
        for number, bind in enumerate(binds):
            path = bind.removeprefix("unix:")
            if bind.startswith(INHERITED):
                sockets += [] if bind in binds[:number] else [_adopt(bind)]
            else:
                sockets += _listen(bind) if path == bind else [_listen_unix(path, mode, group)]
        for opened in sockets:
            prepare(opened, write_deadline)
    except OSError:
        ours = made_here(sockets, binds)
        close(ours)
        for inherited in set(sockets) - set(ours):
            inherited.detach()
        raise
    return sockets


def made_here(sockets: list[socket.socket], binds: list[str]) -> list[socket.socket]:
    """Those that were not inherited: whoever has made the others closes them, and knows what becomes of their paths."""
    return [opened for opened in sockets if f"{INHERITED}{opened.fileno()}" not in binds]


def close(sockets: list[socket.socket], paths: Iterable[str] = ()) -> None:
    """Closes sockets, and takes away the paths of those that have one; `paths` are of those that are closed by now."""
    for path in [*paths, *paths_of(sockets)]:
        Path(path).unlink(missing_ok=True)
    for opened in sockets:
        opened.close()


def paths_of(sockets: list[socket.socket]) -> list[str]:
    """Where Unix sockets that are open stand in the file system."""
    addresses = [opened.getsockname() for opened in sockets if opened.fileno() >= 0]
    return [address for address in addresses if isinstance(address, str) and address]


def address_of(bind: str) -> str:
    """What an inherited socket (`fd:N`) is bound to, as `HOST:PORT` or `unix:…`; any other address as it is.

    Raises BindError.
    """
    if not bind.startswith(INHERITED):
        return bind
    opened = _opened(bind)
    try:
        return name_of(opened)
    finally:
        opened.detach()  # it stays open: this only looked at it


def is_local(bind: str) -> bool:
    """Whether only this machine gets to an address: a loopback one, or a Unix socket."""
    host = bind.rpartition(":")[0].strip("[]").lower()
    if bind.startswith("unix:") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def name_of(opened: socket.socket) -> str:
    """The address that a socket is bound to, as `HOST:PORT` or `unix:…` (an abstract one with `@`)."""
    address = opened.getsockname()
    if opened.family not in {socket.AF_INET, socket.AF_INET6}:
        return f"unix:{os.fsdecode(address).replace(chr(0), '@')}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _adopt(bind: str) -> socket.socket:
    opened = _opened(bind)
    opened.set_inheritable(False)  # workers are given theirs
    return opened


def _opened(bind: str) -> socket.socket:
    """An inherited socket. What cannot be used is left open, as it was found."""
    number = bind.removeprefix(INHERITED)
    if not re.fullmatch(r"0|[1-9]\d{0,6}", number, re.ASCII):
        raise BindError(f"{bind!r} is not fd:NUMBER")
    try:
        opened = socket.socket(fileno=int(number))
    except OSError:
        raise BindError(f"{bind}: this process was started without such a socket") from None
    families = {socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", socket.AF_INET)}
    try:
        listens = opened.family in families and opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listens = 0
    if not listens:
        opened.detach()
        raise BindError(f"{bind} is not a socket that listens")
    return opened


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


def prepare(opened: socket.socket, write_deadline: int) -> None:
    """Sets what the TCP connections to come inherit, where the system has it."""
    if opened.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    for option, value in (
        (getattr(socket, "TCP_NOTSENT_LOWAT", None), UNSENT),
        (getattr(socket, "TCP_USER_TIMEOUT", None), 1000 * write_deadline),  # clients that vanished without a word
        (TCP_RTO_MAX_MS if sys.platform == "linux" else None, LONGEST_RETRY),
    ):
        if option is not None:
            with contextlib.suppress(OSError):  # an older kernel
                opened.setsockopt(socket.IPPROTO_TCP, option, value)
