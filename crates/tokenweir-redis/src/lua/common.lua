-- What all scripts begin with. Numbers are doubles that hold whole numbers up to 2^53, packed as eight bytes each, the lowest
-- first. Times are microseconds of the server's clock.
local call, pack, unpack_at = redis.call, struct.pack, struct.unpack
local floor, min, max = math.floor, math.min, math.max
local MOST = 9007199254740992
-- The first number of a counter's value: what it is, and the version of its format.
local BUCKET, WINDOW, QUOTA = 1001, 1002, 1003
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

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

-- A charge finds this deficit: the ticks with it, and what has been taken from its own.
local function note(ticks, found, tick)
  local size, taken, last, least = #ticks, 0, nil, nil
  if size > 0 then
    last, least, taken = unpack_at('<ddd', ticks, size - 23)
    if last == tick then
      if found >= least then return ticks, taken end
      ticks = string.sub(ticks, 1, size - 24)
    else
      taken = 0
      local from = 1
      while from < size and unpack_at('<d', ticks, from) <= tick - 64 do from = from + 24 end
      if from > 1 then ticks = string.sub(ticks, from) end
    end
  end
  return ticks .. pack('<ddd', tick, found, taken), taken
end

-- A bucket now: total, D, r, time, returned, epoch, ticks. A change of capacity keeps the balance, a change of rate counts
-- from now on; each begins another epoch, over which nothing is given back.
local function bucket(value, key, B, R, P)
  value = known(value, key, BUCKET, 72)
  if not value then return 0, 0, 0, now, 0, 0, '' end
  local _, total, D, r, t, returned, B0, R0, epoch = unpack_at('<ddddddddd', value)
  local time = max(now, t)
  local ticks = string.sub(value, 73)
  D, r = refill(D, r, time - t, R0, P)
  if B0 ~= B or R0 ~= R then
    epoch, ticks = epoch + 1, ''
    D = D + (B - B0)
    if D <= 0 then D, r = 0, 0 end
  end
  return total, D, r, time, returned, epoch, ticks
end

local function keep_bucket(key, total, D, r, time, returned, B, R, P, epoch, ticks)
  D = min(D, MOST)
  -- Full, it is as good as a new one.
  local full = min(floor(D / R * P / 1000) + 1000, 10000000000000)
  call('SET', key, pack('<ddddddddd', BUCKET, total, D, r, time, returned, B, R, epoch) .. ticks, 'PX', full)
end

-- A window now: total, newest sub-window, counted, counted in the newest, and the older ones with what was charged in each.
local function window(value, key, length, N)
  value = known(value, key, WINDOW, 40)
  local index = floor(now / length)
  if not value then return 0, index, 0, 0, '' end
  local _, total, newest, counted, current = unpack_at('<ddddd', value)
  local older = string.sub(value, 41)
  if index > newest then
    if current > 0 then older = older .. pack('<dd', newest, current) end
    newest, current = index, 0
    local from = 1
    while from < #older do
      local at, charged = unpack_at('<dd', older, from)
      if at + N >= index then break end
      counted = counted - charged
      from = from + 16
    end
    if from > 1 then older = string.sub(older, from) end
  end
  return total, newest, counted, current, older
end

local function keep_window(key, total, newest, counted, current, older, lives)
  call('SET', key, pack('<ddddd', WINDOW, total, newest, counted, current) .. older, 'PX', lives)
end

-- A quota now: total, start of its period, used. A period that is over is never gone back to.
local function quota(value, key, start)
  value = known(value, key, QUOTA, 32)
  if not value then return 0, start, 0 end
  local _, total, period, used = unpack_at('<dddd', value)
  if period < start then return total, start, 0 end
  return total, period, used
end

local function keep_quota(key, total, period, used, ends)
  local value = pack('<dddd', QUOTA, total, period, min(used, MOST))
  if ends > 9000000000000000 then
    call('SET', key, value)
  else
    -- A day longer, for a clock that steps back.
    call('SET', key, value, 'PX', floor((ends - now) / 1000) + 86400000)
  end
end

-- The places of an in-flight limit: its key outlives every permit.
local function lives(key, time)
  local milliseconds = floor(time / 1000) + 1000
  if call('PTTL', key) < milliseconds then call('PEXPIRE', key, 2 * milliseconds) end
end
