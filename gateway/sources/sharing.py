"""Looking at files and being in nobody's way: on Windows one that is open cannot be replaced, and can be deleted only
where all who have it open share that."""

import os
import stat
import sys

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes.wintypes import DWORD, FILETIME, HANDLE, LPCWSTR

    _READ, _SHARED, _EXISTING, _PLAIN = 0x8000_0000, 0x7, 3, 0x80
    """GENERIC_READ, FILE_SHARE_READ | WRITE | DELETE, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL (CreateFileW)."""

    _create = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
    _create.argtypes = (LPCWSTR, DWORD, DWORD, ctypes.c_void_p, DWORD, DWORD, HANDLE)
    _create.restype = HANDLE

    class _Attributes(ctypes.Structure):
        """WIN32_FILE_ATTRIBUTE_DATA; its times are in steps of 100 ns since 1601."""

        _fields_ = (
            ("attributes", DWORD),
            ("created", FILETIME),
            ("accessed", FILETIME),
            ("written", FILETIME),
            ("size_high", DWORD),
            ("size_low", DWORD),
        )

    _attributes = ctypes.WinDLL("kernel32", use_last_error=True).GetFileAttributesExW
    _attributes.argtypes = (LPCWSTR, ctypes.c_int, ctypes.POINTER(_Attributes))
    _UNIX = 116_444_736_000_000_000

    def peek(path: str) -> tuple[int, int]:
        """When a file was written (ns), and its size; without opening it, as `os.stat` does there."""
        found = _Attributes()
        if not _attributes(path, 0, ctypes.byref(found)):
            code = ctypes.get_last_error()
            raise OSError(None, ctypes.FormatError(code), path, code)
        steps = found.written.dwHighDateTime << 32 | found.written.dwLowDateTime
        return (steps - _UNIX) * 100, found.size_high << 32 | found.size_low

    def open_to_read(path: str) -> int:
        """A descriptor. Meanwhile others may read, write, rename, replace and delete the file."""
        handle = _create(path, _READ, _SHARED, None, _EXISTING, _PLAIN, None)
        if handle in {None, ctypes.c_void_p(-1).value}:
            code = ctypes.get_last_error()
            raise OSError(None, ctypes.FormatError(code), path, code)
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT)

else:
    _FLAGS = os.O_RDONLY
    for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):  # each where the platform has it
        _FLAGS |= getattr(os, _name, 0)

    def open_to_read(path: str) -> int:
        """A descriptor; a link at the end of the path is not followed where the platform can refuse to."""
        return os.open(path, _FLAGS)


_VIOLATIONS = {32, 33}
"""ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION (Windows, System Error Codes)."""


class LockedError(OSError):
    """Some part of an open file is locked."""


def is_locked(error: OSError) -> bool:
    """Whether a file cannot be read because another program keeps it to itself."""
    return isinstance(error, LockedError) or getattr(error, "winerror", None) in _VIOLATIONS


def read_open(file: int, most: int) -> tuple[os.stat_result, bytes]:
    """What an open file is, and its first `most` bytes where it is a plain one."""
    found = os.fstat(file)
    try:
        return found, os.read(file, most) if stat.S_ISREG(found.st_mode) else b""
    except PermissionError as error:  # opening was allowed: the C runtime says so of a lock, and gives no other code
        raise LockedError(*error.args) from None
