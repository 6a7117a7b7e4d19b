#!/usr/bin/env bash
# Follows every task:  bash follow.sh [CURSOR_FILE [BASE_URL]]
# Prints each event as the gateway says it, one JSON object a line. With a file it keeps its place there: started again,
# it goes on after the last line that it printed. `{"event":"reset"}` is for who holds the tasks: a snapshot follows.
. "$(dirname "${BASH_SOURCE[0]}")/stream.sh"
file=${1-} base=${2:-http://localhost:8080}
[ -z "$file" ] || [ ! -e "$file" ] || read -r cursor <"$file"

news() {
    printf '%s\n' "$2" || exit
    # A kill in between leaves an empty file, or none of this line: what is printed then is printed again.
    [ -z "$file" ] || [ -z "$cursor" ] || printf '%s\n' "$cursor" >"$file" || exit
}

follow "$base/api/v1/tasks" '""'
echo "$base answers HTTP $status instead of a stream" >&2
exit 2
