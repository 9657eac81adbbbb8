"""The scripts of the message log, which run inside Redis (message_log.py says what the keys are)."""

from conversations.shared_changes import ADD_CHANGE

ADD = (
    ADD_CHANGE
    + """
    local function append(arguments)
        local token, writer, number, known, at, entry = unpack(arguments, 1, 6)
        local uuid, website, contact, is_locked, seconds, changes_seconds, run = unpack(arguments, 7, 13)
        local removed, erased, removed_seconds, since = unpack(arguments, 14, 17)
        local sent = redis.call('GET', '{log}:sent:' .. token)
        if sent then
            redis.call('EXPIRE', '{log}:sent:' .. token, seconds)  -- a write, for which WAIT can wait
            add_change(string.match(sent, '^%S+ (%S+)'), changes_seconds)
            return {1, sent}
        end
        if redis.call('EXISTS', '{log}:messages', '{log}:conversations') < 2 then return {2} end
        if redis.call('EXISTS', '{log}:unchecked') == 1 then return {2} end
        if number == '' then
            number = string.format('%.0f', redis.call('INCR', '{log}:conversations'))
        end
        local head, stream = '{log}:h:' .. number, '{log}:c:' .. number
        local last, before, secret = unpack(redis.call('HMGET', head, 'last', 'at', 'uuid'))
        if secret and uuid ~= secret and is_locked == '' then return {3} end
        if known == '-1' and (not last or not secret or redis.call('GET', '{log}:run') ~= run) then return {3} end
        if not last or tonumber(known) > tonumber(last) then last = known end
        -- SQL may have a message that this Redis has lost: then the chain has a gap, and nobody skips it
        local lost = redis.call('GET', '{log}:lost')
        if lost and tonumber(last) < tonumber(lost) then last = lost end
        if since and (tonumber(last) > since or since > tonumber(redis.call('GET', '{log}:messages'))) then
            return {4}
        end
        if before and before > at then at = before end
        entry = '{"at":"' .. at .. '",' .. string.sub(entry, 2)
        local id = string.format('%.0f', redis.call('INCR', '{log}:messages'))
        if removed ~= '' then
            if erased ~= '' then  -- Redis changes no entry
                local rows = redis.call('XRANGE', stream, '-', '+')
                redis.call('DEL', stream)
                for _, row in ipairs(rows) do
                    local text = row[1] == removed .. '-0' and erased or row[2][4]
                    redis.call('XADD', stream, row[1], 'follows', row[2][2], 'entry', text)
                end
            end
            redis.call('XDEL', '{log}:entries', removed .. '-0')
            redis.call('SET', '{log}:removed:' .. number, id, 'EX', removed_seconds)
        end
        redis.call('XADD', stream, id .. '-0', 'follows', last, 'entry', entry)
        redis.call('XADD', '{log}:entries', id .. '-0', 'conversation', number, 'entry', entry)
        redis.call('HSET', head, 'last', id, 'at', at)
        if known ~= '-1' then redis.call('HSET', head, 'uuid', uuid, 'website', website, 'contact', contact) end
        redis.call('SET', '{log}:u:' .. uuid, number)
        redis.call('PERSIST', head)
        redis.call('PERSIST', stream)
        local sent = table.concat({id, number, last, at, writer}, ' ')
        redis.call('SET', '{log}:sent:' .. token, sent, 'EX', seconds)
        add_change(number, changes_seconds)
        return {1, sent}
    end
"""
)
"""The beginning of scripts that append messages."""

APPEND = ADD + "return append(ARGV)"

APPEND_PLAIN = (
    ADD
    + """
    local seconds, changes_seconds, now, most_of_address, seconds_of_address, most, seconds_of_one = unpack(ARGV, 1, 7)

    local function is_used_up(counter, most, seconds)
        local first = redis.call('LINDEX', counter, -most)
        return first and first + seconds > tonumber(now)
    end

    local function count(counter, most, seconds)
        redis.call('RPUSH', counter, now)
        redis.call('LTRIM', counter, -most, -1)
        redis.call('PEXPIRE', counter, seconds * 1000)
    end

    local found = {}
    for index = 8, #ARGV do
        local token, writer, number, at, uuid, run, since, address, one, entry = string.match(
            ARGV[index], '^' .. string.rep('([^\\n]*)\\n', 9) .. '(.*)$'
        )
        local is_new = redis.call('EXISTS', '{log}:sent:' .. token) == 0
        local result = {}
        if not is_new or address == '' or not (
            is_used_up(address, most_of_address, seconds_of_address) or is_used_up(one, most, seconds_of_one)
        ) then
            result = append({
                token, writer, number, '-1', at, entry, uuid, '', '', '', seconds, changes_seconds, run, '', '', '',
                tonumber(since)
            })
        end
        if result[1] == 1 and is_new and address ~= '' then
            count(address, most_of_address, seconds_of_address)
            count(one, most, seconds_of_one)
        end
        found[#found + 1] = result[1] == 1 and result[2] or result[1] == 3 and '-' or ''
    end
    return found
"""
)
"""Several messages at once, of customers who have their conversation open and have read all of it.

Each is one argument, its parts on lines. It answers `''` for each that is not appended, because anything is unusual;
`'-'` if the secret was renewed, or the log does not know the conversation. Messages count for the rate limits
(threshold/sliding_window.py) if there is a counter of the address.
"""

NEXT_ID = """
    if redis.call('EXISTS', '{log}:messages', '{log}:conversations') < 2 then return 0 end
    if redis.call('EXISTS', '{log}:unchecked') == 1 then return 0 end
    return redis.call('INCR', '{log}:messages')
"""

RENEW = """
    local number, before, uuid, contact, seconds = unpack(ARGV)
    local head = '{log}:h:' .. number
    redis.call('DEL', '{log}:u:' .. before)
    redis.call('HSET', head, 'uuid', uuid, 'contact', contact)
    local is_known = redis.call('HGET', head, 'last')
    if is_known then redis.call('SET', '{log}:u:' .. uuid, number) end
    if not is_known or redis.call('TTL', head) >= 0 then  -- SQL has all of it
        redis.call('EXPIRE', head, seconds)
        redis.call('EXPIRE', '{log}:u:' .. uuid, seconds)
    end
"""

RENEW_LATE = "if redis.call('HGET', '{log}:h:' .. ARGV[1], 'uuid') ~= ARGV[2] then return end" + RENEW

FENCE = """
    local head = '{log}:h:' .. ARGV[1]
    local uuid = redis.call('HGET', head, 'uuid')
    if uuid then redis.call('DEL', '{log}:u:' .. uuid) end
    redis.call('HSET', head, 'uuid', ARGV[2])
    redis.call('PERSIST', head)
"""

FORGET_SENT = """
    local key, pk = '{log}:sent:' .. ARGV[1], ARGV[2] .. ' '
    local sent = redis.call('GET', key)
    if sent and string.sub(sent, 1, #pk) == pk then redis.call('DEL', key) end
"""

TAIL = """
    local head, stream = '{log}:h:' .. ARGV[1], '{log}:c:' .. ARGV[1]
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    if not newest then
        local last = redis.call('HGET', head, 'last') or '0'
        return {last, last, {}}
    end
    local floor = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][2][2]
    local last = string.match(newest[1], '^%d+')
    if tonumber(last) <= tonumber(ARGV[2]) then return {last, floor, {}} end
    return {last, floor, redis.call('XRANGE', stream, '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])}
"""

TAILS = """
    local found, left = {}, tonumber(ARGV[1])
    for index = 2, #ARGV, 2 do
        local rows, since = {}, ARGV[index + 1] .. '-0'
        while left > 0 do
            local some = redis.call('XRANGE', '{log}:c:' .. ARGV[index], '(' .. since, '+', 'COUNT', 20)
            for _, row in ipairs(some) do
                since = row[1]
                rows[#rows + 1] = row[1] .. ' ' .. row[2][2] .. ' ' .. row[2][4]
                left = left - #row[2][4]
            end
            if #some < 20 then break end
        end
        found[#found + 1] = rows
    end
    return {left > 0 and 1 or 0, found}
"""
"""One text for each entry: parsing the answer of Redis is what takes the time."""

FIRSTS = """
    local found = {}
    for index = 2, #ARGV do
        local number = ARGV[index]
        local first = redis.call('XRANGE', '{log}:c:' .. number, '-', '+', 'COUNT', 1)[1]
        if redis.call('HGET', '{log}:h:' .. number, 'uuid') == ARGV[1] then first = nil end
        found[index - 1] = first and (first[1] .. ' ' .. first[2][2] .. ' ' .. first[2][4]) or ''
    end
    return found
"""

LASTS = """
    local found = {}
    for index, number in ipairs(ARGV) do
        local newest = redis.call('XREVRANGE', '{log}:c:' .. number, '+', '-', 'COUNT', 1)[1]
        found[index] = newest and tonumber(string.match(newest[1], '^%d+')) or 0
    end
    return found
"""

SETTLED = """
    local kept, seconds = ARGV[1], ARGV[2]
    for index = 3, #ARGV, 2 do
        local number, id = ARGV[index], ARGV[index + 1]
        local head, stream = '{log}:h:' .. number, '{log}:c:' .. number
        if #redis.call('XRANGE', stream, '(' .. id .. '-0', '+', 'COUNT', 1) == 0 then
            redis.call('XTRIM', stream, 'MAXLEN', kept)
            redis.call('EXPIRE', stream, seconds)
            redis.call('EXPIRE', head, seconds)
            local uuid = redis.call('HGET', head, 'uuid')
            if uuid then redis.call('EXPIRE', '{log}:u:' .. uuid, seconds) end
        end
    end
"""

PREPARE = """
    local run, messages, conversations, margin, conversations_margin, opens, seen, seconds = unpack(ARGV)
    if opens ~= '' then
        redis.call('DEL', '{log}:drained')
    elseif redis.call('EXISTS', '{log}:drained') == 1 then
        return 'drained'
    end
    if redis.call('EXISTS', '{log}:messages', '{log}:conversations') == 2 then
        local found = redis.call('GET', '{log}:messages')
        if redis.call('GET', '{log}:run') ~= run then
            redis.call('SET', '{log}:found', found)
            redis.call('INCRBY', '{log}:messages', margin)
            redis.call('INCRBY', '{log}:conversations', conversations_margin)
            redis.call('SET', '{log}:unchecked', 1)
        end
        found, seen = tonumber(redis.call('GET', '{log}:found') or found), tonumber(seen)
        local lost = tonumber(redis.call('GET', '{log}:lost') or 0)
        if seen > found + margin then seen = 0 end  -- it is its own
        if messages ~= '' and redis.call('DEL', '{log}:unchecked') == 1 then  -- nothing of it can be its own yet
            seen = math.max(seen, tonumber(messages))
        end
        if seen > math.max(found, lost) then
            redis.call('SET', '{log}:lost', string.format('%.0f', seen), 'EX', seconds)
        end
    elseif messages == '' then
        return
    end
    local last = {
        ['{log}:messages'] = {messages, margin}, ['{log}:conversations'] = {conversations, conversations_margin}
    }
    for key, numbers in pairs(last) do
        local now = tonumber(redis.call('GET', key) or -1)
        if numbers[1] ~= '' and now < tonumber(numbers[1]) then
            local least = numbers[1] == '0' and 0 or numbers[1] + numbers[2]
            redis.call('SET', key, string.format('%.0f', least))
        end
    end
    if redis.call('EXISTS', '{log}:entries') == 1 then  -- its ids can only rise
        local info, newest = redis.call('XINFO', 'STREAM', '{log}:entries'), '0'
        for index = 1, #info, 2 do
            if info[index] == 'last-generated-id' then newest = string.match(info[index + 1], '^%d+') end
        end
        if tonumber(redis.call('GET', '{log}:messages') or 0) < tonumber(newest) then
            redis.call('SET', '{log}:messages', newest)
        end
    end
    redis.call('SET', '{log}:run', run)
"""
