#!/usr/bin/env bash
# Waits for a task:  bash wait.sh [TASK_ID [BASE_URL]]
# Exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task, 2 when that cannot be known.
. "$(dirname "${BASH_SOURCE[0]}")/stream.sh"
id=${1:-demo-task} base=${2:-http://localhost:8080}

news() {
    [ "$1" = task ] || return 0
    IFS=$'\t' read -r state progress message <<<"$3"
    echo "$progress% $message"
    case $state in
    completed) exit 0 ;;
    error) echo "Failed: $message" >&2; exit 1 ;;
    esac
}

follow "$base/api/v1/tasks/$(jq -rn --arg id "$id" '$id | @uri')" \
    '.task.payload | select(.) | "\(.status)\t\(.progress)\t\(.message | gsub("[\n\r]"; " "))"'
case $status in
404) echo "There is no such task" >&2; exit 3 ;;
200) echo "The server does not stream: poll.sh is for it" >&2; exit 2 ;;
*) echo "HTTP $status" >&2; exit 2 ;;
esac
