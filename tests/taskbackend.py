"""A backend that has tasks: `python -m tests.taskbackend PORT --dialect v1|flat|system [--tasks DIR] [--etags]`.

It starts imports and plays them as its document says, and does under `/-/` what a test tells it. Counts its polls.
"""

import argparse
import asyncio
import hashlib
import json
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

POWN = {"bank": 2, "fracked": 0, "counterfeit": 0, "limbo": 0, "errors": 0, "suspect": 0}
V1_WORDS = {"pending": "running", "success": "completed", "failed": "error"}

Task = dict[str, Any]


class Backend:
    def __init__(self, dialect: str, folder: Path | None, etags: bool, seconds: float) -> None:
        self.dialect, self.folder, self.etags, self.seconds = dialect, folder, etags, seconds
        self.tasks: dict[str, Task] = {}
        self.polls: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.order: list[str] = []  # the first ask of each id
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.at_once = self.most_at_once = 0
        self.instead: dict[str, Any] | None = None
        self.plays: set[asyncio.Task[None]] = set()

    # What front ends call

    async def poll(self, request: web.Request) -> web.Response:
        id = request.match_info.get("id") or request.query.get("task_id") or request.query.get("id") or ""
        self.order += [id] if id not in self.polls else []
        self.polls[id] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.02)
            await self.goes_on.wait()
            answer = self.answer(id, request.headers.get("If-None-Match"))
        finally:
            self.at_once -= 1
        self.statuses[str(answer.status)] += 1
        return answer

    def answer(self, id: str, known: str | None) -> web.Response:
        if said := self.instead:
            return web.Response(status=said["status"], headers=said.get("headers"), text=said.get("body", ""))
        task = self.tasks.get(id)
        if task is None:
            return self.unknown()
        body = json.dumps(self.shown(id, task))
        tag = f'"{hashlib.sha1(body.encode()).hexdigest()}"'
        headers = {"ETag": tag} if self.etags else None
        if self.etags and known == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(text=body, content_type="application/json", headers=headers)

    def unknown(self) -> web.Response:
        if self.dialect == "flat":
            return web.json_response({"error": "Task ID not found"}, status=404)
        body = {"payload": {"code": 4105, "message": "Task does not exist", "details": None}, "status": "error"}
        return web.json_response(body)

    def shown(self, id: str, task: Task) -> Task:
        if self.dialect == "flat":
            return {"status": task["status"], "task_id": id, **{k: v for k, v in task.items() if k != "status"}}
        if self.dialect == "system":
            return {"status": "success", "payload": {"id": id, **task}}
        word = V1_WORDS.get(task["status"], task["status"])
        payload = {"id": id, **task, "status": word, "data": task["data"] if word == "completed" else None}
        return {"status": "success", "payload": payload}

    async def kick_off(self, request: web.Request) -> web.Response:
        guid = uuid.uuid4()
        id = str(guid) if self.dialect == "v1" else time.strftime("%b-%d-%y_%I-%M-%S-%p-") + guid.hex[:4]
        play = asyncio.create_task(self.play(id))
        self.plays.add(play)
        play.add_done_callback(self.plays.discard)
        if self.dialect == "v1":
            task = {"id": id, "status": "running", "progress": 0, "message": "Import started", "data": None}
            return web.json_response({"status": "success", "payload": task})
        reply = {"status": "success", "operation": "import", "task_id": id, "message": "Import started"}
        if self.dialect == "system":
            host = request.headers["Host"]
            reply["url"] = f"http://{host}/api/system/tasks?task_id={id}"
        return web.json_response(reply)

    async def play(self, id: str) -> None:
        """As the Go backend does it: above 100 before the end, and the status set before the data."""
        await asyncio.sleep(self.seconds / 10)
        data = {"total_processed": 0, "already_exists": 0, "pown_results": dict.fromkeys(POWN, 0)}
        for progress in (0, 20, 45, 70, 120 if self.dialect == "v1" else 95):
            message = "Authenticating coins with RAIDA servers..."
            self.put(id, {"status": "running", "progress": progress, "message": message, "data": data})
            await asyncio.sleep(self.seconds / 6)
        done = {"status": "success", "progress": 100, "message": "Import, authentication, and grading complete"}
        if self.dialect == "v1":
            self.put(id, {**done, "data": None})
            await asyncio.sleep(0.05)
        data = {"total_processed": 2, "already_exists": 0, "pown_results": POWN, "receipt_id": id}
        self.put(id, {**done, "data": data})

    def put(self, id: str, task: Task) -> None:
        self.tasks[id] = task
        if self.folder:
            (self.folder / f"{id}.json").write_text(json.dumps(self.shown(id, task), indent=2))

    # What tests tell it

    async def set_task(self, request: web.Request) -> web.Response:
        task = {"status": "running", "progress": 0, "message": "Working", "data": None, **await request.json()}
        self.put(request.match_info["id"], task)
        return web.Response()

    async def forget(self, request: web.Request) -> web.Response:
        self.tasks.pop(request.match_info["id"], None)
        return web.Response()

    async def say(self, request: web.Request) -> web.Response:
        self.instead = await request.json()
        return web.Response()

    async def hold(self, request: web.Request) -> web.Response:
        """Answers no poll until told otherwise."""
        (self.goes_on.clear if await request.json() else self.goes_on.set)()
        return web.Response()

    async def asked(self, _request: web.Request) -> web.Response:
        asked = {"polls": self.polls, "statuses": self.statuses, "at_once": self.most_at_once, "order": self.order}
        return web.json_response({**asked, "open": self.at_once})

    async def reply(self, request: web.Request) -> web.StreamResponse:
        """The body that was sent, with the headers and the status that the query names; in parts where it says so."""
        query, body = request.query, await request.read()
        headers = {name: value for name, value in query.items() if name not in {"status", "parts"}}
        answer = web.StreamResponse(status=int(query.get("status", 200)), headers=headers)
        if "parts" not in query:
            answer.content_length = len(body)
        await answer.prepare(request)
        for n in range(0, len(body), 16 if "parts" in query else len(body)):
            await answer.write(body[n : n + 16] if "parts" in query else body)
        return answer

    def app(self) -> web.Application:
        app = web.Application()
        urls = {
            "v1": ["/api/v1/tasks/{id}", "/get-task-status/{id}"],
            "flat": ["/api/task", "/api/transactions/task"],
            "system": ["/api/system/tasks"],
        }[self.dialect]
        imports = "/api/v1/import" if self.dialect == "v1" else "/api/transactions/import"
        app.add_routes(
            [
                *[web.get(url, self.poll) for url in urls],
                web.route("*", imports, self.kick_off),
                web.put("/-/tasks/{id}", self.set_task),
                web.delete("/-/tasks/{id}", self.forget),
                web.put("/-/instead", self.say),
                web.put("/-/hold", self.hold),
                web.get("/-/asked", self.asked),
                web.post("/-/reply", self.reply),
            ]
        )
        return app


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("port", type=int)
    args.add_argument("--dialect", choices=["v1", "flat", "system"], default="v1")
    args.add_argument("--tasks", type=Path)
    args.add_argument("--etags", action="store_true")
    args.add_argument("--seconds", type=float, default=2)
    given = args.parse_args()
    backend = Backend(given.dialect, given.tasks, given.etags, given.seconds)
    web.run_app(backend.app(), host="127.0.0.1", port=given.port, print=None)


if __name__ == "__main__":
    main()
