-- Decides over all limits of a request, and charges all or none.
-- KEYS: the permit, then each limit's counter. ARGV: numbers, the permit's id, what only the permit's settler reads.
-- numbers: time to live, mode (0 decide, 1 charge whatever is left, 2 look, 3 as 1 without a permit), limits; for each limit
-- kind, shadow, charge, and
--   1 bucket: capacity, refill, in every     2 window: most, sub-window, sub-windows, time to live (ms)
--   3 quota: most, start, end, next end      4 in flight: amount
-- Answer: status (0 admitted, 1 refused, 2 the periods are not those of this clock, 3 the id is taken), now; for each limit
-- whether it fits, what is used, and what the wait follows from. A look also answers what each was charged in all.
local numbers = ARGV[1]
local ttl, mode, limits = unpack_at('<ddd', numbers)
local kept = call('MGET', unpack(KEYS, 2))
local answer, record, write, totals = {0, now}, {}, {}, {}
local refused = false
local from, said, told = 25, 3, 1
for i = 1, limits do
  local kind, shadow, n, a, b, c, d = unpack_at('<ddddddd', numbers, from)
  from = from + 64
  local key, fits, used, more = KEYS[i + 1], false, 0, 0
  if kind == 1 then
    local total, D, r, time, returned, epoch, ticks = bucket(kept[i], key, a, b, c)
    totals[i] = total
    fits = n <= a - D and (n > 0 or D < a or r > 0)
    used, more = D, r
    if fits or mode % 2 == 1 then
      local part, taken = r > 0 and 1 or 0, 0
      if n > 0 then ticks, taken = note(ticks, D - part, floor(time / tick_of(a, b, c))) end
      D = D + n
      write[i] = {total + n, D, r, time, returned, a, b, c, epoch, ticks}
      record[told], record[told + 1], record[told + 2] = n, n, time
      record[told + 3], record[told + 4], record[told + 5], record[told + 6] = D - part, returned, epoch, taken
    end
  elseif kind == 2 then
    local total, newest, counted, current, older = window(kept[i], key, b, c)
    totals[i] = total
    fits = n <= a - counted
    used = counted
    if fits or mode % 2 == 1 then
      write[i] = {total + n, newest, min(counted + n, MOST), current + n, older, d}
      record[told], record[told + 1], record[told + 2] = n, n, newest
      record[told + 3], record[told + 4], record[told + 5], record[told + 6] = 0, 0, 0, 0
    else
      -- The sub-window at whose beginning enough has left; 0: none.
      local rest = counted
      for at = 1, #older, 16 do
        local index, charged = unpack_at('<dd', older, at)
        rest = rest - charged
        if n <= a - rest then more = index + c + 1 break end
      end
      if more == 0 and current > 0 and n <= a - (rest - current) then more = newest + c + 1 end
    end
  elseif kind == 3 then
    if now < b or now >= d then return pack('<dd', 2, now) end
    if now >= c then b, c = c, d end
    local total, period, counted = quota(kept[i], key, b)
    totals[i] = total
    fits = n <= a - counted
    used, more = counted, period
    if fits or mode % 2 == 1 then
      write[i] = {total + n, period, counted + n, period > b and max(d, period) or c}
      record[told], record[told + 1], record[told + 2] = n, n, period
      record[told + 3], record[told + 4], record[told + 5], record[told + 6] = 0, 0, 0, 0
    end
  else
    call('ZREMRANGEBYSCORE', key, '-inf', now)
    used = call('ZCARD', key)
    fits = used < a
    if fits or mode % 2 == 1 then
      write[i] = true
      record[told], record[told + 1], record[told + 2] = n, n, 0
      record[told + 3], record[told + 4], record[told + 5], record[told + 6] = 0, 0, 0, 0
    else
      more = call('ZRANGE', key, used - a, used - a, 'WITHSCORES')[2] or 0
    end
  end
  if not write[i] then
    if shadow == 0 then refused = true end
    record[told], record[told + 1], record[told + 2] = -1, 0, 0
    record[told + 3], record[told + 4], record[told + 5], record[told + 6] = 0, 0, 0, 0
  end
  answer[said], answer[said + 1], answer[said + 2] = fits and 1 or 0, used, more
  said, told = said + 3, told + 7
end
if refused then
  answer[1] = 1
elseif mode ~= 2 then
  if mode ~= 3 then
    local value = pack('<ddddd', 1004, now + ttl, limits, 0, 0) ..
      pack('<' .. string.rep('d', told - 1), unpack(record)) .. ARGV[3]
    if not call('SET', KEYS[1], value, 'NX', 'PX', floor(ttl / 1000) + 1000) then return pack('<dd', 3, now) end
  end
  from = 25
  for i = 1, limits do
    local w = write[i]
    if w then
      local kind, key = unpack_at('<d', numbers, from), KEYS[i + 1]
      if kind == 1 then
        keep_bucket(key, unpack(w))
      elseif kind == 2 then
        keep_window(key, unpack(w))
      elseif kind == 3 then
        keep_quota(key, unpack(w))
      else
        call('ZADD', key, now + ttl, ARGV[2])
        lives(key, ttl)
      end
    end
    from = from + 64
  end
end
if mode == 2 then
  for i = 1, limits do
    answer[said] = totals[i] or 0
    said = said + 1
  end
end
return pack('<' .. string.rep('d', said - 1), unpack(answer))
