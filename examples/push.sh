#!/usr/bin/env bash
# Follows a task by push:  bash push.sh [TASK_ID [BASE_URL]]
# Exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task.
id=${1:-demo-task} base=${2:-http://localhost:8080}

# curl writes the HTTP status after the body, so that jq reads one more JSON value: a number.
ask() {
    curl -sSN -G "$base/api/task" --data-urlencode "task_id=$id" -w '%{http_code}' \
        -H "Accept: application/x-ndjson" -H "Last-Event-ID: $last" |
        jq --unbuffered -r 'if type == "number" then ["HTTP", .]
            else select(.task) | [(.task.status | ascii_downcase), .task.progress, .cursor, .task.message] end | @tsv'
}

while true; do
    while IFS=$'\t' read -r status progress cursor message; do
        [ "$status" = HTTP ] || echo "$progress% $message"
        case "$status $progress" in
        "success 100"* | "completed 100"*) exit 0 ;; # below 100 it is still under way
        "error "* | "failed "* | "cancelled "*) echo "Failed: $message" >&2; exit 1 ;;
        "HTTP 404") echo "There is no such task" >&2; exit 3 ;;
        "HTTP "[45]*) echo "HTTP $progress, trying again" >&2 ;;
        esac
        last=${cursor:-$last} # the state seen last: a new connection goes on after it
    done < <(ask)
    sleep 1
done
