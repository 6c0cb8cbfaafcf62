-- Decides on several requests of one route, one after the other, in the usual case that `quick.lua` knows. What it leaves
-- undecided it does not touch: each is to be asked for alone.
-- KEYS: each limit's counter, then each request's permit. ARGV: numbers, how long the permits' records live (ms), then for each
-- request its id and what only its settler reads.
-- numbers: time to live, limits, requests; for each limit as in an admission; for each request its charge of each limit.
-- Answer: now; for each request status (0 admitted, 1 undecided, 3 the id is taken), and what is used of each limit.
local numbers = ARGV[1]
local ttl, limits, requests = unpack_at('<ddd', numbers)
local kept = call('MGET', unpack(KEYS, 1, limits))
local ZERO = '\0\0\0\0\0\0\0\0'
local UNDECIDED = pack('<d', 1) .. string.rep(ZERO, limits)
local STATUS_AND_USED = '<d' .. string.rep('d', limits)
-- Of each limit: what it is, how much it has, what is used, and the rest of its head.
local kinds, most, levels, totals, firsts, seconds, tails = {}, {}, {}, {}, {}, {}, {}
local fulls, expiries = {}, {}
local from, usual = 25, true
for i = 1, limits do
  local kind, _, _, a, b, c = unpack_at('<dddddd', numbers, from)
  from = from + 64
  local value = kept[i]
  kinds[i], most[i], tails[i] = kind, a, ''
  if kind == 4 then
    call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    levels[i], seconds[i] = call('ZCARD', KEYS[i]), b < ttl and b or ttl
  elseif not value then
    usual = false
    break
  elseif kind == 1 and #value > TICKS then
    local version, total, D, r, time, _, B, R, _, expires = unpack_at('<dddddddddd', value)
    local tick, least, taken = unpack_at('<ddd', value, #value - 23)
    if version ~= BUCKET or B ~= a or R ~= b then usual = false break end
    if time < now then
      local came = (now - time) * R + r
      if came >= MOST then usual = false break end
      local whole = came / c
      whole = whole - whole % 1
      r = came - whole * c
      if r < 0 then whole, r = whole - 1, r + c elseif r >= c then whole, r = whole + 1, r - c end
      D, time = D - whole, now
      if D <= 0 then D, r = 0, 0 end
    end
    local length, found = a / b * c / 32, r > 0 and D - 1 or D
    local at = time / (length < 1 and 1 or length)
    -- From here on the deficit only grows.
    if found < least or at - at % 1 ~= tick then usual = false break end
    totals[i], levels[i], firsts[i], seconds[i] = total, D, r, time
    tails[i] = sub(value, 41, TICKS - 1) .. (taken == 0 and ZERO or pack('<d', taken))
    fulls[i], expiries[i] = c / b, expires - time - 1000000
  elseif kind == 2 and #value >= OLDER - 1 then
    local version, total, newest, counted, current = unpack_at('<ddddd', value)
    local at = now / b
    if version ~= WINDOW or newest ~= at - at % 1 then usual = false break end
    totals[i], levels[i], firsts[i], seconds[i] = total, counted, newest, current
  elseif kind == 3 and #value >= 32 then
    local version, total, period, used = unpack_at('<dddd', value)
    if version ~= QUOTA or period ~= b or now < b or now >= c then usual = false break end
    totals[i], levels[i], firsts[i] = total, used, period
  else
    usual = false
    break
  end
end
if not usual then return pack('<d', now) .. string.rep(UNDECIDED, requests) end
local answer, heads = {pack('<d', now)}, {}
for request = 1, requests do
  local fit, charges_at = true, from
  local record = {pack('<dddddd', PERMIT, now + ttl, limits, 0, 0, RECORD + #ARGV[2 * request + 2]), ARGV[2 * request + 2]}
  local part, next_heads = 3, {}
  for i = 1, limits do
    local n, kind, level = unpack_at('<d', numbers, from), kinds[i], levels[i]
    from = from + 8
    local head = ZERO
    if kind == 4 then
      if level >= most[i] then fit = false end
    elseif n <= 0 or n > most[i] - level then
      fit = false
    elseif kind == 1 then
      if (level + n) * fulls[i] > expiries[i] then fit = false end
      head = pack('<ddddd', BUCKET, totals[i] + n, level + n, firsts[i], seconds[i])
    elseif kind == 2 then
      head = pack('<ddddd', WINDOW, totals[i] + n, firsts[i], level + n, seconds[i] + n)
    else
      head = pack('<dddd', QUOTA, totals[i] + n, firsts[i], level + n)
    end
    local charge = sub(numbers, from - 8, from - 1)
    record[part], record[part + 1], record[part + 2], record[part + 3] = charge, charge, head, tails[i]
    part, next_heads[i] = part + 4, head
  end
  if not fit then
    answer[request + 1] = UNDECIDED
  elseif not call('SET', KEYS[limits + request], concat(record), 'NX', 'PX', ARGV[2]) then
    answer[request + 1] = pack(STATUS_AND_USED, 3, unpack(levels))
  else
    answer[request + 1], heads = pack(STATUS_AND_USED, 0, unpack(levels)), next_heads
    for i = 1, limits do
      local n, kind = unpack_at('<d', numbers, charges_at + 8 * (i - 1)), kinds[i]
      if kind == 4 then
        call('ZADD', KEYS[i], now + seconds[i], ARGV[2 * request + 1])
        levels[i] = levels[i] + 1
      else
        levels[i], totals[i] = levels[i] + n, totals[i] + n
        if kind == 2 then seconds[i] = seconds[i] + n end
      end
    end
  end
end
for i = 1, heads[1] and limits or 0 do
  if kinds[i] == 4 then
    local milliseconds = floor(ttl / 1000) + 1000
    if call('PTTL', KEYS[i]) < milliseconds then call('PEXPIRE', KEYS[i], 2 * milliseconds) end
  else
    call('SETRANGE', KEYS[i], '0', heads[i])
  end
end
return concat(answer)
