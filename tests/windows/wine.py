"""A Python for Windows under Wine: where it is, and how it is called."""

import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".windows"
PREFIX = CACHE / "prefix"
HOME = PREFIX / "drive_c/python"
WINE = Path("/usr/lib/wine/wine64")
PYTHON = (str(WINE), r"C:\python\python.exe")


def environment(**more: str) -> dict[str, str]:
    """Of a Windows process: no display, no word of Wine's own, and the checkout to import from."""
    return {
        **os.environ,
        "WINEPREFIX": str(PREFIX),
        "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=d",  # else it asks for their downloads
        "PYTHONPATH": windows_path(CHECKOUT),
        "PYTHONPYCACHEPREFIX": r"C:\compiled",  # half of what a start takes
        "PYTHONDONTWRITEBYTECODE": "",
        **more,
    }


def windows_path(path: Path) -> str:
    """A path of this machine as a Windows process names it."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


def run(*argv: str, timeout: float = 300, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """What a Windows program says. Its streams are pipes: Python for Windows does not start on a file under Wine."""
    return subprocess.run(
        [str(WINE), *argv], input=b"", capture_output=True, timeout=timeout, env=env or environment(), check=False
    )
