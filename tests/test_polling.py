"""Polls, to the letter of the two documents, over real sockets."""

import json
import os
import socket
import threading
from pathlib import Path

import httpx
import pytest

from tests.harness import Gateway, flat

NOT_FOUND = {"error": "Task ID not found"}
TOO_LARGE = {"error": "Invalid task status file size (must be ≤64KB)"}

# The bodies of the documents' examples.
IMPORT_RUNNING = b"""{
"status": "running",
"task_id": "Nov-01-25_05-49-16-PM",
"progress": 45,
"message": "Authenticating coins with RAIDA servers...",
"data": {
"total_processed": 0,
"already_exists": 0,
"pown_results": {
"bank": 0,
"fracked": 0,
"counterfeit": 0,
"limbo": 0,
"errors": 0,
"suspect": 0
}
}
}"""
V1_RUNNING = {
    "status": "success",
    "payload": {
        "id": "bdc8e99d-dd8a-40e9-8840-f9f8eef16c71",
        "status": "running",
        "progress": 50,
        "message": "Processing...",
        "data": None,
    },
}
V1_COMPLETED = {
    "status": "success",
    "payload": {
        "id": "bdc8e99d-dd8a-40e9-8840-f9f8eef16c71",
        "status": "completed",
        "progress": 100,
        "message": "Command Completed",
        "data": {
            "online": 25,
            "pownstring": "p" * 25,
            "pownarray": [1] * 25,
            "latencies": [1104, 1417, 1407, 1397, 1416, 1405, 1412, 1397, 1407, 1406],
        },
    },
}
FLAT_URLS = ["/api/transactions/task?task_id=", "/api/task?task_id=", "/api/task?id=", "/api/transactions/task?id="]
V1_URLS = ["/api/v1/tasks/", "/get-task-status/", "/api/v1/get-task-status/", "/api/v1/task/"]
SYSTEM_URLS = ["/api/system/tasks?task_id=", "/api/system/tasks?id="]


@pytest.mark.parametrize("url", FLAT_URLS)
def test_flat_is_the_file(gateway: Gateway, url: str) -> None:
    gateway.put("Nov-01-25_05-49-16-PM", IMPORT_RUNNING)
    response = gateway.get(f"{url}Nov-01-25_05-49-16-PM")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.content == IMPORT_RUNNING


@pytest.mark.parametrize("url", V1_URLS)
def test_v1_is_the_documents_envelope(gateway: Gateway, url: str) -> None:
    guid = "bdc8e99d-dd8a-40e9-8840-f9f8eef16c71"
    gateway.put(guid, flat(guid, "running", 50, "Processing..."))
    response = gateway.get(url + guid)
    assert response.status_code == 200
    assert response.json() == V1_RUNNING
    assert list(response.json()["payload"]) == list(V1_RUNNING["payload"])
    gateway.put(guid, flat(guid, "success", 100, "Command Completed", data=V1_COMPLETED["payload"]["data"]))  # type: ignore[index]
    assert gateway.get(url + guid).json() == V1_COMPLETED


@pytest.mark.parametrize("url", SYSTEM_URLS)
def test_system_has_the_files_own_words(gateway: Gateway, name: str, url: str) -> None:
    gateway.put(name, flat(name, "failed", 40, "no network", data={"receipt_id": "r"}))
    payload = {"id": name, "status": "failed", "progress": 40, "message": "no network", "data": {"receipt_id": "r"}}
    assert gateway.get(url + name).json() == {"status": "success", "payload": payload}


@pytest.mark.parametrize("path", ["/api/task", "/api/transactions/task", "/api/task?task_id=", "/api/task?other=1"])
def test_a_missing_parameter_is_the_documented_400(gateway: Gateway, path: str) -> None:
    response = gateway.get(path)
    assert (response.status_code, response.json()) == (400, {"error": "Missing required parameter: task_id"})


@pytest.mark.parametrize("url", FLAT_URLS)
def test_an_unknown_task_is_the_documented_404(gateway: Gateway, url: str) -> None:
    response = gateway.get(f"{url}Jan-01-01_01-01-01-AM")
    assert (response.status_code, response.json()) == (404, NOT_FOUND)


@pytest.mark.parametrize("url", V1_URLS + SYSTEM_URLS)
def test_an_unknown_task_ends_every_v1_poller(gateway: Gateway, url: str) -> None:
    response = gateway.get(url + "bdc8e99d-0000-40e9-8840-f9f8eef16c71")
    assert response.status_code == 404
    assert response.json() == {
        "status": "error",
        "payload": {
            "id": "bdc8e99d-0000-40e9-8840-f9f8eef16c71",
            "status": "error",
            "progress": 0,
            "message": "Task does not exist",
            "data": None,
            "code": 4105,
            "details": None,
        },
    }


def test_65536_bytes_are_served_and_one_more_is_the_documented_500(gateway: Gateway, name: str) -> None:
    body = flat(name, message="x" * 65_000)
    body += b" " * (65_536 - len(body))
    gateway.put(name, body)
    assert gateway.get(f"/api/task?task_id={name}").content == body
    gateway.put(name, body + b" ")
    for _ in range(2):
        response = gateway.get(f"/api/task?task_id={name}")
        assert (response.status_code, response.json()) == (500, TOO_LARGE)
    assert gateway.get(f"/api/v1/tasks/{name}").json()["payload"]["status"] == "error"
    gateway.put(name, body)
    assert gateway.get(f"/api/task?task_id={name}").content == body


@pytest.mark.parametrize("body", [b"", b"   \n", b'{"status":', b"[1,2]", b"\xff\xfe", b"null", b"x" * 100])
def test_a_file_that_was_never_whole_is_the_documented_500(gateway: Gateway, name: str, body: bytes) -> None:
    gateway.put(name, body)
    response = gateway.get(f"/api/task?task_id={name}")
    assert (response.status_code, response.json()) == (500, TOO_LARGE)


def test_a_file_that_becomes_whole_while_it_is_polled(gateway: Gateway, name: str) -> None:
    whole = flat(name)
    path = gateway.put(name, whole[:20])
    timer = threading.Timer(0.3, path.write_bytes, [whole])
    timer.start()
    assert gateway.get(f"/api/task?task_id={name}").content == whole
    timer.join()


def test_a_torn_file_shows_its_last_good_state(gateway: Gateway, name: str) -> None:
    gateway.put(name, flat(name, progress=41))
    assert gateway.get(f"/api/task?task_id={name}").json()["progress"] == 41
    gateway.put(name, flat(name, progress=42)[:30])
    assert gateway.get(f"/api/task?task_id={name}").json()["progress"] == 41
    gateway.put(name, flat(name, progress=43))
    assert gateway.get(f"/api/task?task_id={name}").json()["progress"] == 43


def test_a_poll_sees_every_finished_write(gateway: Gateway, name: str) -> None:
    with httpx.Client() as client:
        for n in range(300):
            gateway.put(name, flat(name, progress=n % 10))  # the same size each time
            assert client.get(f"{gateway.url}/api/task?task_id={name}").json()["progress"] == n % 10


def test_a_deleted_and_recreated_file(gateway: Gateway, name: str) -> None:
    path = gateway.write(name)
    assert gateway.get(f"/api/task?task_id={name}").status_code == 200
    path.unlink()
    assert gateway.get(f"/api/task?task_id={name}").status_code == 404
    gateway.write(name, progress=1)
    assert gateway.get(f"/api/task?task_id={name}").json()["progress"] == 1


def test_etag_and_304(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    first = gateway.get(f"/api/task?task_id={name}")
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert first.headers["vary"] == "Accept, Origin"
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = gateway.get(f"/api/task?task_id={name}", If_None_Match=known)
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
    gateway.write(name, progress=51)
    second = gateway.get(f"/api/task?task_id={name}", If_None_Match=tag)
    assert second.status_code == 200
    assert second.headers["etag"] != tag


def test_head_is_a_poll_without_a_body(gateway: Gateway, name: str) -> None:
    gateway.write(name)
    for path in (f"/api/task?task_id={name}", f"/api/v1/tasks/{name}", f"/api/v1/tasks?id={name}"):
        got, head = gateway.get(path), httpx.head(gateway.url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(got.content))
        assert head.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/api/task?task_id=a", "/api/v1/tasks/a", "/api/system/tasks?id=a", "/api/v1/tasks"])
def test_other_methods_are_405_with_allow(gateway: Gateway, method: str, path: str) -> None:
    response = httpx.request(method, gateway.url + path)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert "rror" in response.text


@pytest.mark.parametrize(
    ("file", "asked"),
    [
        ("bdc8e99d-dd8a-40e9-8840-f9f8eef16c72", "bdc8e99ddd8a40e98840f9f8eef16c72"),
        ("bdc8e99d-dd8a-40e9-8840-f9f8eef16c73", "BDC8E99D-DD8A-40E9-8840-F9F8EEF16C73"),
        ("bdc8e99ddd8a40e98840f9f8eef16c74", "bdc8e99d-dd8a-40e9-8840-f9f8eef16c74"),
        ("BDC8E99D-DD8A-40E9-8840-F9F8EEF16C75", "bdc8e99ddd8a40e98840f9f8eef16c75"),
        ("Apr-22-26_06-12-11-pm-81af", "Apr-22-26_06-12-11-PM-81AF"),
        ("Jan-27-26_01-44-55-AM-706d", "jan-27-26_01-44-55-am-706d"),
    ],
)
def test_ids_are_answered_in_the_files_spelling(gateway: Gateway, file: str, asked: str) -> None:
    gateway.write(file)
    assert gateway.get(f"/api/v1/tasks/{asked}").json()["payload"]["id"] == file
    assert gateway.get(f"/api/task?task_id={asked}").json()["task_id"] == file


def raw(gateway: Gateway, target: bytes) -> bytes:
    """What the gateway answers to a request target that no client library would send."""
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as s:
        s.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: s.recv(65_536), b""))


EVIL = [
    b"..", b"../secret", b"..%2fsecret", b"%2e%2e%2fsecret", b"..%5csecret", b"a/../../secret", b"/etc/passwd", b"%00",
    b"a%00.json", b".hidden", b"%2ehidden", b"a" * 10_000, b"con", b"nul.json", b"a%3ab", b"link", b"%ff%fe",
    b"sub/inner", b"sub", b"x.tmp", b"%20", b"%ed%a0%80", b"%0d%0aSet-Cookie:%20a=b",
]  # fmt: skip


@pytest.mark.parametrize("prefix", [b"/api/task?task_id=", b"/api/v1/tasks/", b"/api/system/tasks?id="])
@pytest.mark.parametrize("evil", EVIL, ids=lambda e: e[:20].decode())
def test_nothing_outside_of_tasks_is_ever_read(gateway: Gateway, prefix: bytes, evil: bytes) -> None:
    secret = gateway.data / "secret.json"
    secret.write_bytes(flat("secret", message="TOP SECRET"))
    (gateway.tasks / ".hidden.json").write_bytes(flat("hidden", message="TOP SECRET"))
    (gateway.tasks / "x.tmp").write_bytes(flat("x", message="TOP SECRET"))
    (gateway.tasks / "sub").mkdir(exist_ok=True)
    (gateway.tasks / "sub" / "inner.json").write_bytes(flat("inner", message="TOP SECRET"))
    link = gateway.tasks / "link.json"
    if not link.is_symlink():
        os.symlink(secret, link)
    answer = raw(gateway, prefix + evil)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404")
    assert b"TOP SECRET" not in answer
    assert b"set-cookie" not in head.lower()
    assert "rror" in json.dumps(json.loads(body))


def test_numbers_as_strings_fractions_and_excess_are_integers_in_v1(gateway: Gateway, name: str) -> None:
    for said, shown in [("45", 45), (99.9, 99), (-3, 0), (250, 100), (None, 0), ("many", 0), (1e300, 100), (True, 0)]:
        gateway.put(name, flat(name, progress=said))
        assert gateway.get(f"/api/v1/tasks/{name}").json()["payload"]["progress"] == shown


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"running","status":"error","progress":1,"progress":2,"message":"twice"}',
        b'{"status":7,"progress":{},"message":[1],"data":"x"}',
        b'{"data":' + b"[" * 400 + b"]" * 400 + b"}",
        b"\xef\xbb\xbf" + flat("bom"),
        b"{}",
        b'{"status":"success","payload":{"status":"completed","progress":100,"message":"m","data":"OK"}}',
    ],
)
def test_odd_files_are_served(gateway: Gateway, name: str, body: bytes) -> None:
    gateway.put(name, body)
    assert gateway.get(f"/api/task?task_id={name}").content == body
    payload = gateway.get(f"/api/v1/tasks/{name}").json()["payload"]
    assert payload["status"] in {"running", "completed", "error"}
    assert isinstance(payload["progress"], int)
    assert isinstance(payload["message"], str)


def test_an_unknown_path_is_a_json_404(gateway: Gateway) -> None:
    response = gateway.get("/nothing/here")
    assert (response.status_code, response.json()) == (404, {"error": "Not Found"})


def test_the_collection_in_pages(gateway: Gateway, name: str, tmp_path: Path) -> None:
    ids = [f"{name}-{n}" for n in range(5)]
    for n, id in enumerate(ids):
        os.utime(gateway.write(id, "error" if n % 2 else "running"), (2_000_000_000 + n, 2_000_000_000 + n))
    first = gateway.get("/api/v1/tasks?limit=2").json()
    assert first["status"] == "success"
    assert [item["id"] for item in first["payload"]["tasks"]] == ids[:2:-1]
    second = gateway.get(f"/api/v1/tasks?limit=2&after={first['payload']['next']}").json()
    assert [item["id"] for item in second["payload"]["tasks"]] == ids[2:0:-1]
    failed = gateway.get("/api/v1/tasks?limit=2&status=error").json()
    assert [item["id"] for item in failed["payload"]["tasks"]] == [ids[3], ids[1]]
    some = gateway.get(f"/api/v1/tasks?id={ids[0]}&id={ids[4]}&id=unknown").json()
    assert [item["id"] for item in some["payload"]["tasks"]] == [ids[4], ids[0]]
    assert some["payload"]["tasks"][1] == {
        "id": ids[0],
        "status": "running",
        "progress": 50,
        "message": "Working",
        "data": {},
        "updated": 2_000_000_000_000,
    }
    for id in ids:
        (gateway.tasks / f"{id}.json").unlink()


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "after=x", "after=-x", "recent=soon", "wait=x"])
def test_a_bad_parameter_is_a_400_that_says_which(gateway: Gateway, query: str) -> None:
    accept = "text/event-stream" if "recent" in query else "*/*"
    response = gateway.get(f"/api/v1/tasks?{query}", Accept=accept)
    assert response.status_code == 400
    assert query.split("=", maxsplit=1)[0] in response.json()["error"]
