"""The `gateway` command."""

import contextlib
import io
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway import process, stdio, workers
from gateway.demo import words
from gateway.demo.folder import busy
from gateway.extras import ExtraError, needs
from gateway.log import say
from gateway.options import Refusal, add_options, settings_of
from gateway.reload import hold
from gateway.settings import Settings
from gateway.sockets import BindError, close, listen, made_here, name_of, paths_of
from gateway.supervisor import passed

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Push instead of poll: serves a backend's task files as documented, and streams every change of them."""


@app.command()
def serve(**given: Any) -> None:
    """Serve the Tasks folder of a data path."""
    hold()
    settings = settings_of(given)
    if "bind" not in settings.model_fields_set and (binds := passed()):
        settings = settings_of({**given, "bind": binds})
    with process.leaving_nothing() as stack:
        sockets = stack.enter_context(_listening(settings))
        says = f"Serving {_what(settings)} at {_urls(sockets, settings)}"
        if settings.workers > 1:
            workers.serve(settings, sockets, says, stack)
        else:
            process.serve(settings, sockets, says, stack)


@app.command()
def demo(
    upstream: Annotated[
        bool, typer.Option("--upstream", help="Play a backend without a folder, and stand in front of it.")
    ] = False,
    **given: Any,
) -> None:
    """Play a backend into a scratch folder, and serve that."""
    if upstream:
        _demo_upstream(given)
        return
    with process.leaving_nothing() as stack:
        scratch = process.scratch(stack, "demo")
        tasks = scratch / "Tasks"
        tasks.mkdir()
        settings = settings_of({**given, "data_path": scratch})
        sockets = stack.enter_context(_listening(settings))
        says = words.of_folder(_urls(sockets, settings).split()[0])
        process.serve(settings, sockets, says, stack, {"demo": partial(busy, tasks)})


def _demo_upstream(given: dict[str, Any]) -> None:
    from gateway.demo import memory  # noqa: PLC0415 - its HTTP server takes long to load, and most need none

    with process.leaving_nothing() as stack, socket.create_server(("127.0.0.1", 0)) as backend:
        behind = f"http://127.0.0.1:{backend.getsockname()[1]}"
        settings = settings_of({**given, "upstream": behind})
        sockets = stack.enter_context(_listening(settings))
        url = _urls(sockets, settings).split()[0]
        demo = partial(memory.busy, backend, url)
        process.serve(settings, sockets, words.of_upstream(url, behind), stack, {"demo": demo})


_WATCH = (
    "Watch tasks at the terminal: bars, or a line for each change where stdout is none.\n\n"
    "With IDs it ends when all have ended: with 0 when all succeeded, 1 when one failed, 3 when one does not exist "
    "(and none failed). Without, it follows what runs, until Ctrl-C.\n\n"
    "--exec fills in {id}, {status}, {message} and {progress} without a shell. The command has them in TASK_ID, "
    "TASK_STATUS, TASK_MESSAGE and TASK_PROGRESS too, and the task as JSON on stdin. Four run at once."
)


@app.command(help=_WATCH)
def watch(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Tasks to wait for; without, all.")] = None,
    url: Annotated[str, typer.Option(envvar="GATEWAY_URL", help="The gateway.")] = "http://localhost:8080",
    bearer: Annotated[str, typer.Option("--token", envvar="GATEWAY_TOKEN", help="Where it asks for one.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the stream as NDJSON.")] = False,
    command: Annotated[
        str,
        typer.Option("--exec", metavar="'CMD {id}'", help="Run at each final state.", show_default=False),
    ] = "",
) -> None:
    from gateway.watch.run import watch as watch_tasks  # noqa: PLC0415 - its HTTP client would slow the others' start
    from gateway.watch.stream import WatchError  # noqa: PLC0415

    try:
        raise typer.Exit(watch_tasks(url, ids or [], token=bearer, as_json=as_json, command=command))
    except WatchError as error:
        raise Refusal(str(error)) from None


@app.command()
def token(
    key: Annotated[Path, typer.Option(envvar="GATEWAY_AUTH_KEY", help="File with the private key, or the secret.")],
    new: Annotated[
        bool, typer.Option("--new", help="Make the key first: Ed25519, in a file that must not exist.")
    ] = False,
    tasks: Annotated[list[str] | None, typer.Option(help="Task that may be seen: an id or a glob. Repeatable.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="metrics or upstream. Repeatable.")] = None,
    expires: Annotated[str, typer.Option(help="For how long: 90s, 15m, 8h, 30d.")] = "8h",
    subject: Annotated[str, typer.Option(help="Who bears it.")] = "",
    audience: Annotated[str, typer.Option(envvar="GATEWAY_AUTH_AUDIENCE", help="Its aud.")] = "",
    issuer: Annotated[str, typer.Option(envvar="GATEWAY_AUTH_ISSUER", help="Its iss.")] = "",
) -> None:
    """Mint a token. Without --tasks it sees every task."""
    from gateway.transports.request import BadRequestError, period  # noqa: PLC0415

    try:
        with needs("auth"):
            from gateway.access import minting  # noqa: PLC0415 - cryptography takes long to load
        if new:
            minting.make_key(key)
        made = minting.mint(
            key,
            tasks=tasks or ["*"],
            scopes=scope or [],
            seconds=period(expires),
            sub=subject,
            aud=audience,
            iss=issuer,
        )
    except BadRequestError:
        raise Refusal("--expires must be a period such as 90s, 15m, 8h or 30d") from None
    except ExtraError as error:
        raise Refusal(f"token {error}") from None
    except (OSError, ValueError) as error:  # KeyFileError is one
        raise Refusal(f"--key {key}: {getattr(error, 'strerror', None) or error}") from None
    stdio.tell(made)


@app.command("check")
def check_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", envvar="GATEWAY_DATA_PATH", help="Data path or its Tasks.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each finding.")] = False,
) -> None:
    """Say what pollers would have trouble with in a folder of task files. Exit status 1 where they would stumble."""
    from gateway.check import check  # noqa: PLC0415 - its types take long to define

    tasks = folder if folder.name == "Tasks" or not (folder / "Tasks").is_dir() else folder / "Tasks"
    levels: list[str] = []
    try:
        for finding in check(tasks):
            levels.append(finding.level)
            said = json.dumps(finding._asdict()) if as_json else f"{finding.level}: {finding.file}: {finding.text}"
            stdio.tell(said)  # as JSON in ASCII: a name may be no Unicode
    except stdio.OutputError:
        raise
    except OSError as error:
        raise Refusal(f"{tasks}: {error.strerror}") from None
    if not as_json:
        errors = levels.count("error")
        say(f"{tasks}: {errors} errors, {len(levels) - errors} warnings")
    raise typer.Exit(int("error" in levels))


class Transport(StrEnum):
    SSE = "sse"
    NDJSON = "ndjson"
    WS = "ws"


@app.command()
def bench(
    subscribers: Annotated[int, typer.Option(min=1, max=50_000, help="Connections to hold.")] = 1_000,
    rate: Annotated[float, typer.Option(min=0.1, max=100_000, help="Writes a second.")] = 50,
    tasks: Annotated[int, typer.Option(min=1, max=100_000, help="Tasks that are written in turn.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long to measure.")] = 10,
    transport: Annotated[Transport, typer.Option(help="How the subscribers connect.")] = Transport.SSE,
    own: Annotated[bool, typer.Option("--own", help="Each subscriber follows a task of its own.")] = False,
    finished: Annotated[int, typer.Option(min=0, max=1_000_000, help="Finished tasks in the folder besides.")] = 0,
    broker: Annotated[str, typer.Option(help="URL of a Redis: the subscribers are at an edge behind it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure what this machine can do: latency, events, processor time and memory, on loopback."""
    from rich.console import Console  # noqa: PLC0415 - what it shows, and its HTTP client, would slow the others' start
    from rich.progress import Progress  # noqa: PLC0415

    from gateway.bench.run import BenchError, Load, measure  # noqa: PLC0415

    load = Load(
        subscribers=subscribers,
        rate=rate,
        tasks=max(tasks, subscribers) if own else tasks,
        seconds=seconds,
        transport=transport.value,
        own=own,
        finished=finished,
        broker=broker,
    )
    process.raise_descriptor_limit()
    try:
        at = Console(stderr=True)
        with Progress(console=at, transient=True, disable=not at.is_terminal) as bar:
            running = bar.add_task(f"{subscribers} subscribers, {rate:g} writes a second", total=seconds)
            figures = measure(load, lambda done: bar.update(running, completed=done))
    except BenchError as error:
        say(f"gateway: {error}")
        raise typer.Exit(1) from None
    with (console := Console()).capture() as shown:
        if as_json:
            console.print_json(data={**asdict(load), **figures})
        else:
            console.print(_table(figures))
    stdio.tell(shown.get().rstrip("\n"))


def _table(figures: dict[str, Any]) -> "Table":
    from rich.table import Column, Table  # noqa: PLC0415 - see bench

    table = Table("figure", Column("value", justify="right"))
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), "not known here" if value is None else f"{value:,.2f}")
    return table


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[list[socket.socket]]:
    try:
        mode = int(settings.unix_mode, 8)
        sockets = listen(settings.bind, settings.write_deadline, mode=mode, group=settings.unix_group)
    except BindError as error:
        raise Refusal(f"{error}: choose another address with --bind HOST:PORT") from None
    ours = made_here(sockets, settings.bind)
    paths = paths_of(ours)  # now: the server closes what it served
    try:
        yield sockets
    finally:
        close(ours, paths)


def _what(settings: Settings) -> str:
    """What is served, without what is secret in it."""
    if settings.source or settings.data_path or settings.polls_backend or not settings.broker:
        return str(settings.source or settings.data_path or settings.upstream)
    from gateway.broker.connection import shown  # noqa: PLC0415 - most need no Redis

    return shown(settings.broker)


def _urls(sockets: list[socket.socket], settings: Settings) -> str:
    """The URLs to open, one for each port and address; `localhost` where that is both."""
    scheme = "https" if settings.tls_cert else "http"
    hosts: dict[str, list[str]] = {}
    paths = []
    for opened in sockets:
        address = name_of(opened)
        if address.startswith("unix:"):
            paths.append(address)
            continue
        host, _, port = address.rpartition(":")
        hosts.setdefault(port, []).append(host)
    both = ["127.0.0.1", "[::1]"]
    shown = {port: ["localhost"] if found == both else found for port, found in hosts.items()}
    return " ".join([f"{scheme}://{host}:{port}" for port, found in shown.items() for host in found] + paths)


add_options(serve, "auth_secret", "auth_folder", "source_token")  # a secret on a command line can be seen by others
add_options(
    demo, "data_path", "workers", "upstream", "auth_secret", "auth_folder", "source", "source_token", "source_silence"
)


def main() -> None:
    stdio.fill()
    speak()
    with stdio.ended():
        app(prog_name="gateway", windows_expand_args=False)  # a glob is for whoever gets it; shells expand theirs


def speak() -> None:
    """Has every name be said: what is no terminal gets UTF-8, and what cannot be shown is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            chosen = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(encoding=None if chosen else "utf-8", errors="backslashreplace")
