"""What is shipped: the sdist and the wheel, built, installed elsewhere and run; and what each start loads."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from gateway import __version__
from tests.harness import Gateway

pytestmark = pytest.mark.timeout(180)  # pip may have to wait for its index

ROOT = Path(__file__).parent.parent


def run(*argv: str | Path, cwd: Path) -> str:
    done = end_of(*argv, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def end_of(*argv: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from the sdist. A checkout is built as git has it."""
    there = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", there, ROOT, cwd=there)
    return there


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(only(built, "*.whl")) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_bytes(wheel.read(f"task_gateway-{__version__}.dist-info/METADATA"))


# Contents


def checked_in() -> set[str]:
    """What belongs to the project: what git knows or would add, or in an unpacked sdist all that is there."""
    if (ROOT / ".git").exists():
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
        return {name for name in listed if (ROOT / name).exists() and not name.startswith(".ci/")} - {".gitignore"}
    files = (file.relative_to(ROOT) for file in ROOT.rglob("*") if file.is_file())
    made = (".", "__pycache__", "PKG-INFO")
    return {str(file) for file in files if not any(part.startswith(made) for part in file.parts)}


def test_the_sdist_has_all_that_is_checked_in(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert names - {"PKG-INFO", ".gitignore"} == checked_in()


def test_the_wheel_has_the_package_and_its_static_files_alone(wheel: zipfile.ZipFile) -> None:
    info = f"task_gateway-{__version__}.dist-info/"
    own = {name for name in checked_in() if name.startswith("gateway/")}
    own |= {f"gateway/{name}" for name in checked_in() if name.startswith("static/")}
    assert {"gateway/py.typed", "gateway/static/gateway.js", "gateway/static/gateway.d.ts"} <= own
    about = {info + name for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert set(wheel.namelist()) == own | about
    assert b"gateway = gateway.cli:main" in wheel.read(info + "entry_points.txt")
    assert wheel.read(info + "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_metadata_says_what_the_project_says(metadata: Message) -> None:
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"all", "auth", "redis"} <= set(metadata.get_all("Provides-Extra", []))
    assert str(metadata.get_payload()).startswith("# task-gateway")


@pytest.mark.parametrize(("extra", "packages"), [("auth", ("pyjwt", "cryptography")), ("redis", ("redis", "hiredis"))])
def test_what_an_extra_installs_is_nowhere_else(metadata: Message, extra: str, packages: tuple[str, ...]) -> None:
    needs = [need for need in metadata.get_all("Requires-Dist", []) if need.startswith(packages)]
    assert {need.rpartition("extra == ")[2] for need in needs} == {f"'{one}'" for one in (extra, "all", "test")}


def test_the_changelog_knows_the_version() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    versions = [line.split("[")[1].split("]")[0] for line in lines if line.startswith("## [")]
    assert versions[0] == "Unreleased"
    assert versions[1:2] in ([], [__version__])
    assert {line for line in lines if line.startswith("### ")} <= {
        f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }


def test_the_constraints_are_exact_and_name_no_index() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line.split(";")[0] for line in lines)
    assert not [line for line in lines if "://" in line or line.startswith("-") or "--hash" in line]
    pinned = {line.partition("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [need for extra in project["optional-dependencies"].values() for need in extra]
    names = {need.split(";")[0].split("[")[0].split(">")[0].strip() for need in wanted} - {"task-gateway"}
    assert names <= pinned, names - pinned


# Installed


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that was empty until the wheel was installed into it, without extras."""
    return install(only(built, "*.whl"), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def from_sdist(built: Path, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that the sdist was installed into; its dependencies are those of the other one."""
    there = install(only(built, "*.tar.gz"), tmp_path_factory.mktemp("sdist"), "--no-deps")
    (site_packages(there) / "others.pth").write_text(str(site_packages(environment)))
    return there


def install(what: Path, there: Path, *options: str) -> Path:
    venv.create(there, with_pip=False)
    pip = (sys.executable, "-m", "pip", "--python", str(there / "bin/python"), "install", "--quiet")
    run(*pip, "--constraint", ROOT / "constraints.txt", *options, what, cwd=there)
    return there


def site_packages(environment: Path) -> Path:
    return only(environment, "lib/python*/site-packages")


@pytest.mark.parametrize("kind", ["environment", "from_sdist"])
def test_what_is_installed_serves(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    there: Path = request.getfixturevalue(kind)
    with Gateway(command=(str(there / "bin/gateway"),), cwd=tmp_path) as one:
        assert one.process.args[0] == str(there / "bin/gateway")  # type: ignore[index]
        one.write("a", "running", 40)
        assert one.get("/api/task?task_id=a").json()["progress"] == 40
        with one.sse("/api/task?task_id=a") as events:
            assert next(events).json()["progress"] == 40
            one.write("a", "success", 100)
            states = [event.json() for event in events if event.event == "message"]
        assert states[-1]["status"] == "success"
        assert "<title>" in one.get("/").text
        script = one.get("/static/gateway.js")
        assert script.content == (ROOT / "static/gateway.js").read_bytes()
        assert script.headers["content-type"].startswith("text/javascript")
        assert "gateway_tasks 1.0" in one.get("/metrics").text
    where = "import gateway; print(gateway.__file__, gateway.__version__)"
    file, version = run(there / "bin/python", "-c", where, cwd=tmp_path).split()
    assert Path(file).is_relative_to(site_packages(there))
    assert version == __version__


def test_only_what_needs_an_extra_cannot_be_imported_without(environment: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, gateway
for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
    if module.name != "gateway.__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""
    missing = dict(line.split() for line in run(environment / "bin/python", "-c", code, cwd=tmp_path).splitlines())
    assert set(missing.values()) == {"jwt", "redis", "zttp"}
    assert {name.rsplit(".", 1)[0] for name, needs in missing.items() if needs == "jwt"} == {"gateway.access"}
    for name, needs in missing.items():
        assert needs == "jwt" or name.startswith(("gateway.broker.", "gateway.bench.broker", "gateway.http2.")), name


@pytest.mark.parametrize(
    ("command", "name", "extra"),
    [
        (("serve", "--broker", "redis://localhost"), "--broker (GATEWAY_BROKER): needs redis", "redis"),
        (("bench", "--broker", "redis://localhost"), "--broker needs redis", "redis"),
        (("serve", "--auth-key", "key.pem"), "--auth-key (GATEWAY_AUTH_KEY): needs jwt", "auth"),
        (("serve", "--auth-jwks", "https://id.example/"), "--auth-jwks (GATEWAY_AUTH_JWKS): needs jwt", "auth"),
        (("serve", "--trusted-header", "X-User"), "--trusted-header (GATEWAY_TRUSTED_HEADER): needs jwt", "auth"),
        (("token", "--key", "key.pem", "--new"), "token needs jwt", "auth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_without_an_extra_it_says_what_to_install(
    command: tuple[str, ...], name: str, extra: str, environment: Path, tmp_path: Path
) -> None:
    done = end_of(environment / "bin/gateway", *command, cwd=tmp_path, COLUMNS="200")
    assert done.returncode == (1 if command[0] == "bench" else 2)
    assert done.stderr.strip() == f"gateway: {name}: pip install 'task-gateway[{extra}]'"
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_a_secret_from_the_environment_needs_its_extra_too(environment: Path, tmp_path: Path) -> None:
    argv = (environment / "bin/gateway", "serve", "--data-path", tmp_path)
    done = end_of(*argv, cwd=tmp_path, GATEWAY_AUTH_SECRET="s" * 40)
    assert done.returncode == 2
    assert "needs jwt: pip install 'task-gateway[auth]'" in done.stderr
    assert "sss" not in done.stderr


# What a start loads


def loaded(code: str) -> set[str]:
    """The packages beyond Python's own that running code loads."""
    said = run(
        sys.executable,
        "-c",
        f"import sys; before = set(sys.modules); {code}; print(*set(sys.modules) - before)",
        cwd=ROOT,
    )
    return {name.partition(".")[0] for name in said.split()} - sys.stdlib_module_names


def test_importing_the_package_loads_nothing_else() -> None:
    assert loaded("import gateway") == {"gateway"}


def test_the_client_loads_nothing_of_the_server() -> None:
    server = {"aiohttp", "prometheus_client", "pydantic", "starlette", "typer", "uvicorn", "watchfiles", "websockets"}
    assert not loaded("import gateway.client") & (server | LATER - {"httpx"})


LATER = {"aiohttp", "cryptography", "httpx", "hiredis", "jwt", "prometheus_client", "redis", "sse_starlette"}
"""What a gateway that was given nothing but a folder has no need of until it is asked for."""


def test_a_start_loads_only_what_it_needs(start: Callable[..., Gateway]) -> None:
    one = start(command=(sys.executable, "-X", "importtime", "-m", "gateway"))
    one.write("a", "success", 100)
    assert one.get("/api/task?task_id=a").status_code == 200
    with one.sse("/api/task?task_id=a") as events:
        assert len(list(events)) == 1
    assert one.get("/").status_code == one.get("/readyz").status_code == 200
    before = len(one.lines)
    assert one.get("/metrics").status_code == 200
    one.stop()
    modules = [line.rpartition("|")[2].strip() for line in one.lines if line.startswith("import time:")]
    assert "gateway.server" in modules
    parts = ("gateway.broker", "gateway.upstream", "gateway.watch", "gateway.bench", "gateway.client", "rich.progress")
    assert not [name for name in modules if name.startswith(parts)]
    assert {name.partition(".")[0] for name in modules} & LATER == {"prometheus_client"}
    assert not [line for line in one.lines[:before] if "prometheus_client" in line]
