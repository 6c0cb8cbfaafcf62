-- Brings a permit from what it was charged to what it came to, and ends it; or charges what a stream has brought more.
-- KEYS: the permit, then each limit's counter. ARGV: numbers, the permit's id.
-- numbers: mode (0 end, 1 observe), limits, observed input, observed output; for each limit as in an admission, with what it
-- came to as the charge; kind 0 is left alone.
-- Answer: status (0 done, 1 there is no such permit, 2 the periods are not those of this clock), now; for each limit as in an
-- admission.
-- What of d comes back of a charge `first` that was made at x, left a deficit of y, and found so much returned and taken; and
-- the ticks after that. Rounded to the smaller side throughout.
local function as_if(ticks, d, first, x, y, returned, taken, D, time, length, R, P)
  local function came(e)
    return e > 0 and floor(e * R / P * 1.000000000000001) + 1 or 0
  end
  -- The deficit has not been below what it was, less all that came and all that others had back; nor below the charge alone.
  local all = came(time - x)
  local least = max(y - all - returned, first - all)
  local own, at, size = floor(x / length), 1, #ticks
  while at < size and unpack_at('<d', ticks, at) < own do at = at + 24 end
  local from = at
  if at < size then
    local tick, _, now_taken = unpack_at('<ddd', ticks, at)
    if tick == own then
      -- The same within its own tick, and the floors of the later ones.
      local part = min(all, came((own + 1) * length - x))
      local bound = max(y - part - (now_taken - taken), first - part)
      at = at + 24
      while at < size do
        local _, floor_of = unpack_at('<dd', ticks, at)
        bound = min(bound, floor_of)
        at = at + 24
      end
      least = max(least, bound)
    end
  end
  local back = min(d, least, D)
  if back <= 0 then return 0, ticks end
  local rest = {string.sub(ticks, 1, from - 1)}
  for at = from, size, 24 do
    local tick, floor_of, taken_of = unpack_at('<ddd', ticks, at)
    rest[#rest + 1] = pack('<ddd', tick, floor_of - back, taken_of + back)
  end
  return back, table.concat(rest)
end

local numbers = ARGV[1]
local mode, limits, input, output = unpack_at('<dddd', numbers)
local permit = call('GET', KEYS[1])
if not permit then return pack('<dd', 1, now) end
local kind_of, deadline, count, seen_input, seen_output = unpack_at('<ddddd', permit)
if kind_of ~= 1004 or count ~= limits then
  error('TOKENWEIR the value under ' .. KEYS[1] .. ' is not the permit that was asked for', 0)
end
if deadline <= now then
  call('DEL', KEYS[1])
  return pack('<dd', 1, now)
end
local kept = call('MGET', unpack(KEYS, 2))
local answer, write, record = {0, now}, {}, {}
local from, said = 33, 3
for i = 1, limits do
  local kind, _, n, a, b, c, d = unpack_at('<ddddddd', numbers, from)
  from = from + 64
  local charged, first, x, y, z, w, taken = unpack_at('<ddddddd', permit, i * 56 - 15)
  local key, used, more = KEYS[i + 1], 0, 0
  local change = 0
  if charged >= 0 then change = n - charged end
  if mode == 1 then change = max(change, 0) end
  record[i * 7 - 6], record[i * 7 - 5], record[i * 7 - 4] = charged + change, first, x
  record[i * 7 - 3], record[i * 7 - 2], record[i * 7 - 1], record[i * 7] = y, z, w, taken
  if kind == 1 then
    local total, D, r, time, returned, epoch, ticks = bucket(kept[i], key, a, b, c)
    local part, length = r > 0 and 1 or 0, tick_of(a, b, c)
    if change > 0 then
      ticks = note(ticks, D - part, floor(time / length))
      D = D + change
    elseif change < 0 and epoch == w then
      local back
      back, ticks = as_if(ticks, -change, first, x, y, returned - z, taken, D - part, time, length, b, c)
      D, returned = D - back, returned + back
      if returned > MOST / 2 then returned, epoch, ticks = 0, epoch + 1, '' end
      if D <= 0 then r = 0 end
    end
    used, more = D, r
    if change ~= 0 and (kept[i] or change > 0) then
      write[i] = {max(total + change, 0), D, r, time, returned, a, b, c, epoch, ticks}
    end
  elseif kind == 2 then
    local total, newest, counted, current, older = window(kept[i], key, b, c)
    if change > 0 then
      counted, current = min(counted + change, MOST), current + change
    elseif change < 0 then
      local back = 0
      if x == newest then
        back = min(-change, current)
        current = current - back
      elseif x + c >= newest then
        for at = 1, #older, 16 do
          local index, was = unpack_at('<dd', older, at)
          if index == x then
            back = min(-change, was)
            older = string.sub(older, 1, at - 1) .. pack('<dd', index, was - back) .. string.sub(older, at + 16)
            break
          end
        end
      end
      counted = counted - back
    end
    used = counted
    if change ~= 0 and (kept[i] or change > 0) then
      write[i] = {max(total + change, 0), newest, counted, current, older, d}
    end
  elseif kind == 3 then
    if now < b or now >= d then return pack('<dd', 2, now) end
    if now >= c then b, c = c, d end
    local total, period, counted = quota(kept[i], key, b)
    if change > 0 then
      counted = counted + change
    elseif change < 0 and period == x then
      counted = max(counted + change, 0)
    end
    used, more = counted, period
    if change ~= 0 and (kept[i] or change > 0) then
      write[i] = {max(total + change, 0), period, counted, period > b and max(d, period) or c}
    end
  elseif kind == 4 then
    used = call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
    if mode == 0 and charged >= 0 then write[i], used = true, max(used - 1, 0) end
  end
  answer[said], answer[said + 1], answer[said + 2] = charged >= 0 and 1 or 0, used, more
  said = said + 3
end
if mode == 0 then
  call('DEL', KEYS[1])
else
  local value = pack('<ddddd', 1004, deadline, limits, max(seen_input, input), max(seen_output, output)) ..
    pack('<' .. string.rep('d', limits * 7), unpack(record)) .. string.sub(permit, 41 + limits * 56)
  call('SET', KEYS[1], value, 'PX', floor((deadline - now) / 1000) + 1000)
end
from = 33
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
      call('ZREM', key, ARGV[2])
    end
  end
  from = from + 64
end
return pack('<' .. string.rep('d', said - 1), unpack(answer))
