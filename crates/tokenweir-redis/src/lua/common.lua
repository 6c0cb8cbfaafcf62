-- How counters are read and written.

-- A counter's value as it is kept; nil if there is none. What is there and is not a counter is an error, not a new counter.
local function known(value, key, kind, least)
  if value then
    if #value < least or unpack_at('<d', value) ~= kind then
      error('TOKENWEIR the value under ' .. key .. ' is not a counter of this format', 0)
    end
    return value
  end
  if call('EXISTS', key) == 1 then
    error('TOKENWEIR the value under ' .. key .. ' is not a counter of this format', 0)
  end
end

-- whole and rest of x / P, both exact.
local function divide(x, P)
  local whole = floor(x / P)
  local rest = x - whole * P
  if rest < 0 then return whole - 1, rest + P end
  if rest >= P then return whole + 1, rest - P end
  return whole, rest
end

-- A deficit of D tokens less r parts in P, after e microseconds in which R tokens came for every P: exact, however long.
local function refill(D, r, e, R, P)
  if D <= 0 then return 0, 0 end
  if e <= 0 then return D, r end
  if e * R / P * 0.999999999999999 >= D then return 0, 0 end
  local q, m = divide(R, P)
  local g, x = 0, e * m + r
  if x >= MOST then
    -- Too large to multiply at once: digit by digit, to the base of 128. P is below 2^45.
    local left, place = e, 1
    while place * 128 <= left do place = place * 128 end
    x = 0
    while place >= 1 do
      local digit = floor(left / place)
      left = left - digit * place
      local w
      w, x = divide(x * 128 + digit * m, P)
      g = g * 128 + w
      place = place / 128
    end
    x = x + r
  end
  local w, rest = divide(x, P)
  D = D - (g + w + q * e)
  if D <= 0 then return 0, 0 end
  return D, rest
end

-- The length of a bucket's ticks: one of 32 in the time that fills it. The last 64 of them are remembered, as tick, the least
-- deficit that a charge found in it, and what returns have taken since: what it takes to give back as if.
local function tick_of(B, R, P)
  return max(B / R * P / 32, 1)
end

-- A charge finds this deficit: the ticks with it, nil if they are what begins at `from` in `value` already, and what has been
-- taken from its own.
local function note(value, from, found, tick)
  local size = #value
  if size < from then return pack('<ddd', tick, found, 0), 0 end
  local last, least, taken = unpack_at('<ddd', value, size - 23)
  if last == tick then
    if found >= least then return nil, taken end
    return sub(value, from, size - 24) .. pack('<ddd', tick, found, taken), taken
  end
  while from < size and unpack_at('<d', value, from) <= tick - 64 do from = from + 24 end
  return sub(value, from) .. pack('<ddd', tick, found, 0), 0
end

-- A bucket now: total, D, r, time, returned, epoch, when its key expires, and the text in which its ticks begin at which
-- byte. A change of capacity keeps the balance, a change of rate counts from now on; each begins another epoch, over which
-- nothing is given back.
local function bucket(value, key, B, R, P)
  value = known(value, key, BUCKET, TICKS - 1)
  if not value then return 0, 0, 0, now, 0, 0, 0, '', 1 end
  local _, total, D, r, t, returned, B0, R0, epoch, expires = unpack_at('<dddddddddd', value)
  local time = max(now, t)
  D, r = refill(D, r, time - t, R0, P)
  if B0 == B and R0 == R then return total, D, r, time, returned, epoch, expires, value, TICKS end
  D = D + (B - B0)
  if D <= 0 then D, r = 0, 0 end
  return total, D, r, time, returned, epoch + 1, 0, '', 1
end

-- A window now: total, newest sub-window, counted, counted in the newest, and the text in which the older ones begin at
-- which byte, each with what was charged in it; and whether that is how the value has them.
local function window(value, key, length, N)
  value = known(value, key, WINDOW, OLDER - 1)
  local index = floor(now / length)
  if not value then return 0, index, 0, 0, '', 1, false end
  local _, total, newest, counted, current = unpack_at('<ddddd', value)
  if index <= newest then return total, newest, counted, current, value, OLDER, true end
  if current > 0 then value = value .. pack('<dd', newest, current) end
  local from = OLDER
  while from < #value do
    local at, charged = unpack_at('<dd', value, from)
    if at + N >= index then break end
    counted = counted - charged
    from = from + 16
  end
  return total, index, counted, 0, value, from, false
end

-- A quota now: total, start of its period, used, and whether the value is of this period. A period that is over is never
-- gone back to.
local function quota(value, key, start)
  value = known(value, key, QUOTA, 32)
  if not value then return 0, start, 0, false end
  local _, total, period, used = unpack_at('<dddd', value)
  if period < start then return total, start, 0, false end
  return total, period, used, true
end

-- What is to be written once all limits have been asked: key, value, and how, one after the other. A value of the same length
-- as before is written over what is there, which leaves the key's time to live as it is.
local IN_PLACE, FOREVER = -1, 0
local writes, written = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}, 0
local function keep(key, value, how)
  writes[written + 1], writes[written + 2], writes[written + 3] = key, value, how
  written = written + 3
end

local function write_back()
  for at = 1, written, 3 do
    local key, value, how = writes[at], writes[at + 1], writes[at + 2]
    if how == IN_PLACE then
      call('SETRANGE', key, '0', value)
    elseif how == FOREVER then
      call('SET', key, value)
    else
      call('SET', key, value, 'PX', how)
    end
  end
end

-- Each of these returns the head of the value. `ticks`: nil if they are those of `value`.
local function keep_bucket(key, total, D, r, time, returned, B, R, P, epoch, expires, value, from, ticks)
  D = min(D, MOST)
  -- Full, it is as good as a new one.
  local full = min(floor(D / R * P / 1000) + 1000, 10000000000000)
  local in_place = not ticks and from == TICKS and now + full * 1000 <= expires
  if not in_place then expires = now + 2000 * full end
  local head = pack('<dddddddddd', BUCKET, total, D, r, time, returned, B, R, epoch, expires)
  if in_place then
    keep(key, head, IN_PLACE)
  else
    keep(key, head .. (ticks or sub(value, from)), 2 * full)
  end
  return head
end

local function keep_window(key, total, newest, counted, current, value, from, same, lives)
  local head = pack('<ddddd', WINDOW, total, newest, counted, current)
  if same then
    keep(key, head, IN_PLACE)
  else
    keep(key, head .. sub(value, from), lives)
  end
  return head
end

local function keep_quota(key, total, period, used, same, ends)
  local value = pack('<dddd', QUOTA, total, period, min(used, MOST))
  if same then
    keep(key, value, IN_PLACE)
  elseif ends > 9000000000000000 then
    keep(key, value, FOREVER)
  else
    -- A day longer, for a clock that steps back.
    keep(key, value, floor((ends - now) / 1000) + 86400000)
  end
  return value
end

-- The places of an in-flight limit: its key outlives every permit.
local function lives(key, time)
  local milliseconds = floor(time / 1000) + 1000
  if call('PTTL', key) < milliseconds then call('PEXPIRE', key, 2 * milliseconds) end
end
