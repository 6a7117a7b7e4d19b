# shellcheck shell=bash
# To be sourced: reads a stream of the gateway for ever. Needs bash 4.4, curl and jq.
#
#   follow URL FILTER
#
# calls `news KIND LINE TEXT` for each event, which may leave the script. KIND is task, synced, gone, invalid or reset;
# LINE is what the gateway said; TEXT is what the jq FILTER makes of it, on one line. A lost connection is made again, and
# goes on after $cursor. Returns where that is of no use: $status is what the server answered, 200 if it does not stream.
cursor='' status='' silence=${GATEWAY_SILENCE:-30} # two heartbeats: without a byte for so long, a connection is dead
trap '[ -z "$curl" ] || kill "$curl" 2>/dev/null' EXIT

follow() {
    local failures=0
    while true; do
        open "$1" "$2"
        listen
        close
        case $status in
        '' | 408 | 425 | 429 | 5*) ;;
        200) [ -n "$streams" ] || return ;;
        *) return ;;
        esac
        again
    done
}

# The head comes with the body (-i), so that one reader sees status, heartbeats and events in the order they came.
open() {
    local accept="Accept: application/x-ndjson"
    exec 3< <(exec curl -sSNiL --connect-timeout 10 -H "$accept" -H "Last-Event-ID: $cursor" "$1")
    curl=$!
    exec 4< <(exec jq --unbuffered -Rr "def text: $2;"'
        rtrimstr("\r") as $line | $line | if startswith("{") then (fromjson? // {}) |
            [(if .task then "task" else .event // "other" end), .cursor // "", $line, text]
        elif startswith("HTTP/") then ["status", split(" ")[1]]
        elif test("^content-type: *application/x-ndjson"; "i") then ["streams"]
        elif test("^retry-after: *[0-9]+ *$"; "i") then ["away", match("[0-9]+").string]
        else ["alive"] end | join("\u001f")' <&3)
    exec 3<&-
    status='' streams='' away=0
}

listen() {
    local resumable=$cursor place=$cursor kind now line text # a place inside a snapshot is none to resume from
    while IFS=$'\x1f' read -r -t "$silence" kind now line text <&4; do
        case $kind in
        alive | other) continue ;;
        status) status=$now; continue ;;
        away) away=$((10#$now)); continue ;;
        streams)
            streams=1
            [ -n "$cursor" ] || news reset '{"event":"reset"}' # a gateway says it only to who has a cursor
            continue
            ;;
        reset) resumable='' place='' cursor='' ;;
        synced) resumable=1 failures=0 ;;
        esac
        place=${now:-$place}
        [ -z "$resumable" ] || cursor=$place
        news "$kind" "$line" "$text"
    done
}

close() {
    kill "$curl" 2>/dev/null
    wait "$curl" 2>/dev/null
    curl=''
    exec 4<&-
}

# Waits ever longer, and no two clients as long as each other; and as long as the server asks.
again() {
    local longest=$((failures < 5 ? 250 << failures : 5000)) pause
    failures=$((failures + 1))
    pause=$(((longest + RANDOM % longest) / 2 + 1000 * (away < 300 ? away : 300)))
    pause=$((pause / 1000)).$(printf %03d $((pause % 1000)))
    echo "The stream ended${status:+ (HTTP $status)}, trying again in $pause s" >&2
    sleep "$pause"
}
