-- The general case: what the usual one has left undecided. It is told and answers the same.
local answer, record, totals = {nil, nil, nil, nil}, {nil, nil, nil, nil, nil, nil}, {}
local places
local refused, from = false, 25
-- How much of what is left is leased, and what is left then.
local rest = 0
local function leased(left, n, least)
  n = min(n, floor(left / unpack_at('<d', numbers, from - 8)))
  if n < least or n <= 0 then return 0 end
  rest = left - n
  return n
end
-- -1, then nothing.
local NOT_CHARGED = '\0\0\0\0\0\0\240\191' .. ZERO .. ZERO
for i = 1, limits do
  local kind, shadow, n, a, b, c, d = unpack_at('<ddddddd', numbers, from)
  from = from + 64
  local key, fits, used, more = KEYS[i + 1], false, 0, 0
  local charged = NOT_CHARGED
  if kind == 1 then
    local total, D, r, time, returned, epoch, expires, value, ticks_from = bucket(kept[i], key, a, b, c)
    totals[i] = total
    if mode == 4 then n = leased(a - D, n, shadow) end
    fits = n <= a - D and (n > 0 or D < a or r > 0) and (mode ~= 4 or n > 0)
    used, more = D, r
    if fits or mode % 2 == 1 then
      local found, taken, ticks = r > 0 and D - 1 or D, 0, nil
      if n > 0 then ticks, taken = note(value, ticks_from, found, floor(time / tick_of(a, b, c))) end
      charged = pack('<dd', n, n) ..
        keep_bucket(key, total + n, D + n, r, time, returned, a, b, c, epoch, expires, value, ticks_from, ticks) ..
        pack('<d', taken)
    end
  elseif kind == 2 then
    local total, newest, counted, current, value, older, same = window(kept[i], key, b, c)
    totals[i] = total
    if mode == 4 then n = leased(a - counted, n, shadow) end
    fits = n <= a - counted and (mode ~= 4 or n > 0)
    used = counted
    if fits or mode % 2 == 1 then
      charged = pack('<dd', n, n) ..
        keep_window(key, total + n, newest, min(counted + n, MOST), current + n, value, older, same, d)
    else
      -- The sub-window at whose beginning enough has left; 0: none.
      local rest = counted
      for at = older, #value, 16 do
        local index, left = unpack_at('<dd', value, at)
        rest = rest - left
        if n <= a - rest then more = index + c + 1 break end
      end
      if more == 0 and current > 0 and n <= a - (rest - current) then more = newest + c + 1 end
    end
  elseif kind == 3 then
    if now < b or now >= d then return pack('<dd', 2, now) end
    if now >= c then b, c = c, d end
    local total, period, counted, same = quota(kept[i], key, b)
    totals[i] = total
    if mode == 4 then n = leased(a - counted, n, shadow) end
    fits = n <= a - counted and (mode ~= 4 or n > 0)
    used, more = counted, period
    if fits or mode % 2 == 1 then
      charged = pack('<dd', n, n) ..
        keep_quota(key, total + n, period, counted + n, same, period > b and max(d, period) or c)
    end
  else
    call('ZREMRANGEBYSCORE', key, '-inf', now)
    used = call('ZCARD', key)
    fits = used < a
    if fits or mode % 2 == 1 then
      places = places or {}
      places[#places + 1], places[#places + 2] = key, min(b, ttl)
      charged = pack('<dd', n, n) .. ZERO
    else
      more = call('ZRANGE', key, used - a, used - a, 'WITHSCORES')[2] or 0
    end
  end
  if charged == NOT_CHARGED and (shadow == 0 or mode == 4) then refused = true end
  if mode == 4 then used = n end
  answer[i], record[i + 2] = pack('<ddd', fits and 1 or 0, used, more), charged
end
local status = 0
if refused then
  status = 1
elseif mode ~= 2 then
  if mode ~= 3 then
    record[1], record[2] = pack('<dddddd', PERMIT, now + ttl, limits, 0, 0, RECORD + #ARGV[3]), ARGV[3]
    if not call('SET', KEYS[1], concat(record), 'NX', 'PX', ARGV[4]) then return pack('<dd', 3, now) end
  end
  write_back()
  for i = 1, places and #places or 0, 2 do
    call('ZADD', places[i], now + places[i + 1], ARGV[2])
    lives(places[i], ttl)
  end
end
if mode == 4 then answer[limits + 1] = pack('<d', rest) end
if mode == 2 then
  for i = 1, limits do answer[limits + i] = pack('<d', totals[i] or 0) end
end
return pack('<dd', status, now) .. concat(answer)
