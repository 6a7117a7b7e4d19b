"""What `gateway demo` tells whoever started it."""


def of_folder(url: str) -> str:
    return f"""
A backend is played: imports, authentications and fixes, some of them failing.

  Open   {url}/
  Poll   curl '{url}/api/task?task_id=demo-task'
  Push   curl -N -H 'Accept: text/event-stream' '{url}/api/task?task_id=demo-task'
  All    curl -N -H 'Accept: application/x-ndjson' {url}/api/v1/tasks

Ctrl-C ends it.
"""


def of_upstream(url: str, behind: str) -> str:
    return f"""
A backend is played at {behind}: it keeps its tasks in memory, and a front end starts imports at the gateway.

  Open   {url}/
  Start  curl -X POST {url}/api/v1/import
  All    curl -N -H 'Accept: application/x-ndjson' {url}/api/v1/tasks
  Polls  curl {behind}/polls      how often the backend was asked for each, by the gateway alone

Ctrl-C ends it.
"""
