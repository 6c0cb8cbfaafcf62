-- Decides over all limits of a request, and charges all or none.
-- KEYS: the permit, then each limit's counter. ARGV: numbers, the permit's id, what only the permit's settler reads, how long the
-- permit's record lives (ms).
-- numbers: time to live, mode (0 decide, 1 charge whatever is left, 2 look, 3 as 1 without a permit, 4 lease of one limit),
-- limits; for each limit kind, shadow, charge, and
--   1 bucket: capacity, refill, in every     2 window: most, sub-window, sub-windows, time to live (ms)
--   3 quota: most, start, end, next end      4 in flight: amount
-- Answer: status (0 admitted, 1 refused, 2 the periods are not those of this clock, 3 the id is taken, 4 admitted, and of each
-- limit follows only what is used), now; for each limit
-- whether it fits, what is used, and what the wait follows from. A look also answers what each was charged in all. A lease
-- charges what is asked for, but at most one part of so many (the eighth number) of what is left, and nothing if that is less
-- than the least (in place of shadow); it says how much in place of what is used.
local numbers = ARGV[1]
local ttl, mode, limits = unpack_at('<ddd', numbers)
local kept = call('MGET', unpack(KEYS, 2))
local ZERO = '\0\0\0\0\0\0\0\0'
-- The usual case, without a function of its own, which would take longer than the decision: all counters are there,
-- nothing of them changes but their heads, and everything fits. Nothing is written before that is known; otherwise what
-- follows decides.
if mode == 0 and limits <= 8 then
  local used, from, fit = {nil, nil, nil, nil}, 25, true
  -- The record's parts; room for those of four limits, so that it need not grow.
  local record, part = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}, 3
  local heads, holds = {nil, nil, nil, nil}, nil
  for i = 1, limits do
    local kind, _, n, a, b, c, d = unpack_at('<ddddddd', numbers, from)
    from = from + 64
    local value, charge, head = kept[i], sub(numbers, from - 48, from - 41), nil
    if kind == 4 then
      call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', now)
      used[i] = call('ZCARD', KEYS[i + 1])
      if used[i] >= a then fit = false break end
      record[part], record[part + 1], record[part + 2] = charge, charge, ZERO
      part, holds = part + 3, holds or {}
      holds[i] = b < ttl and b or ttl
    elseif not value or n <= 0 then
      fit = false
      break
    elseif kind == 1 and #value > TICKS then
      local version, total, D, r, time, returned, B, R, epoch, expires = unpack_at('<dddddddddd', value)
      local tick, least, taken = unpack_at('<ddd', value, #value - 23)
      if version ~= BUCKET or B ~= a or R ~= b then fit = false break end
      if time < now then
        -- As refill does, where the product is exact.
        local came = (now - time) * R + r
        if came >= MOST then fit = false break end
        local whole = came / c
        whole = whole - whole % 1
        r = came - whole * c
        if r < 0 then whole, r = whole - 1, r + c elseif r >= c then whole, r = whole + 1, r - c end
        D, time = D - whole, now
        if D <= 0 then D, r = 0, 0 end
      end
      local length, found = a / b * c / 32, r > 0 and D - 1 or D
      local at = time / (length < 1 and 1 or length)
      if n > a - D or found < least or at - at % 1 ~= tick or time + (D + n) / b * c + 1000000 > expires then
        fit = false
        break
      end
      head = pack('<ddddd', BUCKET, total + n, D + n, r, time)
      used[i] = D
      record[part], record[part + 1], record[part + 2] = charge, charge, head
      record[part + 3], record[part + 4] = sub(value, 41, TICKS - 1), taken == 0 and ZERO or pack('<d', taken)
      part = part + 5
    elseif kind == 2 and #value >= OLDER - 1 then
      local version, total, newest, counted, current = unpack_at('<ddddd', value)
      local at = now / b
      if version ~= WINDOW or newest ~= at - at % 1 or n > a - counted then fit = false break end
      head = pack('<ddddd', WINDOW, total + n, newest, counted + n, current + n)
      used[i] = counted
      record[part], record[part + 1], record[part + 2] = charge, charge, head
      part = part + 3
    elseif kind == 3 and #value >= 32 then
      local version, total, period, counted = unpack_at('<dddd', value)
      if version ~= QUOTA or period ~= b or now < b or now >= c or n > a - counted then fit = false break end
      head = pack('<dddd', QUOTA, total + n, period, counted + n)
      used[i] = counted
      record[part], record[part + 1], record[part + 2] = charge, charge, head
      part = part + 3
    else
      fit = false
      break
    end
    heads[i] = head
  end
  if fit then
    record[1], record[2] = pack('<dddddd', PERMIT, now + ttl, limits, 0, 0, RECORD + #ARGV[3]), ARGV[3]
    if not call('SET', KEYS[1], concat(record), 'NX', 'PX', ARGV[4]) then return pack('<dd', 3, now) end
    for i = 1, limits do
      local key, head = KEYS[i + 1], heads[i]
      if head then
        call('SETRANGE', key, '0', head)
      else
        call('ZADD', key, now + holds[i], ARGV[2])
        local milliseconds = floor(ttl / 1000) + 1000
        if call('PTTL', key) < milliseconds then call('PEXPIRE', key, 2 * milliseconds) end
      end
    end
    return pack(sub('<dddddddddd', 1, 3 + limits), 4, now, unpack(used))
  end
end
