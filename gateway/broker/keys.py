"""What stands in Redis, and the scripts that change it: each one step that nobody sees half of.

| key | type | holds |
|---|---|---|
| `{name}:stream` | stream | changes in order: `r` the record, `p` the id of the change before (the chain has no hole) |
| `{name}:tasks` | hash | by task: the id of its newest change, a space, and the record |
| `{name}:order` | sorted set | those tasks by the millisecond of that change: what is dropped first |
| `{name}:meta` | hash | `epoch`, `head` (id of the newest change), `floor` (ms up to which deletions are forgotten) |
| `{name}:spaces` | hash | by namespace: the epoch in which all is told, a space, and when that was last so (ms) |
| `{name}:lease:…` | string | who publishes that namespace now |

The braces keep them in one slot of a cluster.
"""

from typing import NamedTuple


class Keys(NamedTuple):
    """The keys' names, for a broker's name and a publisher's namespace."""

    stream: str
    tasks: str
    order: str
    meta: str
    spaces: str
    lease: str

    @classmethod
    def of(cls, name: str, space: str = "") -> "Keys":
        return cls(*[f"{{{name}}}:{part}" for part in (*cls._fields[:-1], f"lease:{space}")])


_SANE = """
local function is_time(text) return #text <= 13 and string.match(text, '^%d+$') and tonumber(text) < 8796093022208 end
local function sane(id, floor)
    local ms, seq = string.match(id or '0-0', '^(%d+)-(%d+)$')
    return ms and is_time(ms) and #seq <= 7 and tonumber(seq) < 1048576 and is_time(floor or '0')
end
"""
"""Whether an offset can be made of a stream's id, and of a time; see gateway/broker/values.py."""

LEAD = (
    """
-- KEYS: lease, meta, stream, tasks, order, spaces
-- ARGV: token, ttl (ms), a new epoch, the newest change known to be written
-- Returns the epoch for who has the lease now, nothing where somebody else has it.
-- What makes no sense is emptied, and a new epoch begun: the folders are the truth.
local function is(key, kind)
    local found = redis.call('TYPE', key).ok
    return found == kind or found == 'none'
end
if not is(KEYS[1], 'string') then redis.call('DEL', KEYS[1]) end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) == false
    and redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
"""
    + _SANE
    + """
local function read()
    for n, kind in ipairs({'hash', 'stream', 'hash', 'zset', 'hash'}) do
        if not is(KEYS[n + 1], kind) then return false end
    end
    local epoch, head, floor = unpack(redis.call('HMGET', KEYS[2], 'epoch', 'head', 'floor'))
    local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
    if epoch and not (#epoch <= 64 and string.match(epoch, '^%w+$')) then return false end
    return sane(head, floor) and sane(newest and newest[1]), epoch, head
end
local well, epoch, head = read()
if not well then
    for n = 2, #KEYS do redis.call('DEL', KEYS[n]) end
    epoch = false
end
local function parts(id)
    local ms, seq = string.match(id or '', '^(%d+)-(%d+)$')
    return tonumber(ms or 0), tonumber(seq or 0)
end
local ms, seq = parts(head)
local known_ms, known_seq = parts(ARGV[4])
if not epoch or ms < known_ms or (ms == known_ms and seq < known_seq) then  -- emptied, or writes were lost
    epoch = ARGV[3]
    redis.call('HSET', KEYS[2], 'epoch', epoch)
    redis.call('DEL', KEYS[6])
end
return epoch
"""
)

RENEW = """
-- KEYS: lease   ARGV: token, ttl (ms; 0 gives it up)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

PUBLISH = """
-- KEYS: lease, meta, stream, tasks, order   ARGV: token, epoch, most entries, then an id and a record for each change
-- Returns the id of the last change, nothing to who does not lead any more.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local epoch, head = unpack(redis.call('HMGET', KEYS[2], 'epoch', 'head'))
if epoch ~= ARGV[2] then return false end
for n = 4, #ARGV, 2 do
    local id, record = ARGV[n], ARGV[n + 1]
    local entry = redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'p', head or '', 'r', record)
    redis.call('HSET', KEYS[4], id, entry .. ' ' .. record)
    redis.call('ZADD', KEYS[5], string.match(entry, '^%d+'), id)
    head = entry
end
redis.call('HSET', KEYS[2], 'head', head)
return head
"""

TOLD = (
    _SANE
    + """
-- KEYS: lease, meta, spaces   ARGV: token, epoch, namespace
-- Its first command that writes is one that a Redis without memory refuses: nobody is told then.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local epoch, head, floor = unpack(redis.call('HMGET', KEYS[2], 'epoch', 'head', 'floor'))
if epoch ~= ARGV[2] or not sane(head, floor) then return 0 end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[3], ARGV[3], epoch .. ' ' .. now)
return 1
"""
)

DROP = """
-- KEYS: lease, tasks, order   ARGV: token, then fields of tasks
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[2], unpack(ARGV, 2))
redis.call('ZREM', KEYS[3], unpack(ARGV, 2))
return 1
"""

TRIM = """
-- KEYS: lease, meta, stream, tasks, order, spaces
-- ARGV: token, history (ms), keep (ms), most tasks, most bytes of the stream, most bytes of the tasks
-- Returns how many tasks were dropped; bytes of the stream, of the tasks; entries; tasks. Nothing to who does not lead.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function bytes(key) return redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 50) or 0 end

redis.call('XTRIM', KEYS[3], 'MINID', '~', string.format('%d', now - ARGV[2]))
local length, size = redis.call('XLEN', KEYS[3]), bytes(KEYS[3])
if size > tonumber(ARGV[5]) then
    length = math.floor(length * 0.8 * ARGV[5] / size)
    redis.call('XTRIM', KEYS[3], 'MAXLEN', length)
    size = bytes(KEYS[3])
end

local tasks, held = redis.call('HLEN', KEYS[4]), bytes(KEYS[4]) + bytes(KEYS[5])
local excess = tasks - ARGV[4]
if held > tonumber(ARGV[6]) then excess = math.max(excess, math.ceil(tasks * (1 - 0.9 * ARGV[6] / held))) end
local old = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', string.format('%d', now - ARGV[3]), 'LIMIT', 0, 500)
if #old < 500 and excess > #old then old = redis.call('ZRANGE', KEYS[5], 0, math.min(excess, 500) - 1) end
if #old > 0 then
    local floor = math.max(redis.call('ZSCORE', KEYS[5], old[#old]), redis.call('HGET', KEYS[2], 'floor') or 0)
    floor = math.min(floor, now)
    redis.call('HDEL', KEYS[4], unpack(old))
    redis.call('ZREM', KEYS[5], unpack(old))
    redis.call('HSET', KEYS[2], 'floor', string.format('%d', floor))
end

local spaces = redis.call('HGETALL', KEYS[6])
for n = 1, #spaces, 2 do  -- who has told nothing for so long has no task here any more
    local at = string.match(spaces[n + 1], ' (%d+)$')
    if at and tonumber(at) < now - ARGV[3] then redis.call('HDEL', KEYS[6], spaces[n]) end
end
return {#old, size, held, redis.call('XLEN', KEYS[3]), tasks - #old}
"""
