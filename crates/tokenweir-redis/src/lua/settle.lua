-- Brings a permit from what it was charged to what it came to, and ends it; charges what a stream has brought more, or
-- gives back what is not used and lets it go on. Ends of several permits of one route go one after the other, each as if alone.
-- KEYS: the permits, then each limit's counter. ARGV: numbers, each permit's id.
-- numbers: mode (0 end, 1 observe, 2 give back, 3 end, and leave a mark of one byte for ten minutes, so that nothing is made
-- there again; one permit unless 0), limits, permits, observed input, observed output; for each limit as in an admission, whose
-- charge is not looked at; for each permit what each limit came to. A limit that the settler's
-- policy does not have has amounts of 0.
-- Answer: status (0 done, 1 there is no such permit, 2 the periods are not those of this clock), now; of one permit for each
-- limit as in an admission; of several the status of each, where 5 says that it is to be settled alone.
-- What of d comes back of a charge `first` that was made at x, left a deficit of y, and found so much returned and taken; and
-- the ticks after that, if they are other ones. Rounded to the smaller side throughout.
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
  if back <= 0 then return 0 end
  local rest = {sub(ticks, 1, from - 1)}
  for at = from, size, 24 do
    local tick, floor_of, taken_of = unpack_at('<ddd', ticks, at)
    rest[#rest + 1] = pack('<ddd', tick, floor_of - back, taken_of + back)
  end
  return back, concat(rest)
end

local numbers = ARGV[1]
local mode, limits, permits, input, output = unpack_at('<ddddd', numbers)
local alone, mark = permits == 1, mode == 3
if mark then mode = 0 end
local kept = call('MGET', unpack(KEYS))
local answer, record = {nil, nil, nil, nil}, {nil, nil, nil, nil, nil, nil}
-- The permits that are over, and by limit the places that are free, and what is to be written.
local over, places, heads, ways = {}, {}, {}, {}
local charge_at = 41 + 64 * limits
for one = 1, permits do
  local permit, status = kept[one], 0
  local kind_of, deadline, count, seen_input, seen_output, legs
  if permit and #permit >= RECORD - 1 then
    kind_of, deadline, count, seen_input, seen_output, legs = unpack_at('<dddddd', permit)
  end
  if not permit or #permit == 1 or over[KEYS[one]] then
    status = 1
  elseif kind_of ~= PERMIT or count ~= limits then
    if alone then error('TOKENWEIR the value under ' .. KEYS[1] .. ' is not the permit that was asked for', 0) end
    status = 5
  elseif deadline <= now then
    over[#over + 1] = KEYS[one]
    status = 1
  else
    local from, leg = 41, legs
    for i = 1, limits do
      local kind, _, _, a, b, c, d = unpack_at('<ddddddd', numbers, from)
      local n = unpack_at('<d', numbers, charge_at + 8 * ((one - 1) * limits + i - 1))
      from = from + 64
      -- What it was charged, and when it was, the deficit then, what had come back and been taken, the amounts, the epoch.
      local charged, first, version = unpack_at('<ddd', permit, leg)
      local x, y, z, B, R, w, taken, size = 0, 0, 0, a, b, 0, 0, 24
      if version == BUCKET then
        local D, r, _
        D, r, x, z, B, R, w, _, taken = unpack_at('<ddddddddd', permit, leg + 32)
        y, size = r > 0 and D - 1 or D, 104
      elseif version == WINDOW or version == QUOTA then
        x, size = unpack_at('<d', permit, leg + 32), version == WINDOW and 56 or 48
      end
      local at, used, more = permits + i, 0, 0
      local key, value = KEYS[at], kept[at]
      local change = 0
      if charged >= 0 then change = n - charged end
      if mode > 0 then
        change = mode == 1 and max(change, 0) or min(change, 0)
        -- What is given back is as if it had never been charged, also to what is given back later.
        record[i + 2] = pack('<dd', charged + change, first + min(change, 0)) .. sub(permit, leg + 16, leg + size - 1)
      end
      leg = leg + size
      -- A counter that has gone has nothing to give back to.
      local changes = change > 0 or change < 0 and value
      if kind == 1 then
        -- Only a decision changes a bucket's amounts. Those of one that has gone are the settler's, if its policy has the limit,
        -- else those that the permit was charged by.
        if value and #value >= TICKS - 1 then
          B, R = unpack_at('<dd', value, 49)
        elseif a > 0 then
          B, R = a, b
        end
        local total, D, r, time, returned, epoch, expires, text, ticks_from = bucket(value, key, B, R, c)
        local found, ticks = r > 0 and D - 1 or D, nil
        local length = tick_of(B, R, c)
        if change > 0 then
          ticks = note(text, ticks_from, found, floor(time / length))
          D = D + change
        elseif change < 0 and epoch == w then
          local back
          back, ticks =
            as_if(sub(text, ticks_from), -change, first, x, y, returned - z, taken, found, time, length, R, c)
          D, returned = D - back, returned + back
          if returned > MOST / 2 then returned, epoch, ticks = 0, epoch + 1, '' end
          if D <= 0 then r = 0 end
        end
        used, more = max(D + (a - B), 0), r
        if changes then
          local all = max(total + change, 0)
          keep_bucket(key, all, D, r, time, returned, B, R, c, epoch, expires, text, ticks_from, ticks)
        end
      elseif kind == 2 then
        local total, newest, counted, current, text, older, same = window(value, key, b, c)
        if change > 0 then
          counted, current = min(counted + change, MOST), current + change
        elseif change < 0 then
          local back = 0
          if x == newest then
            back = min(-change, current)
            current = current - back
          elseif x + c >= newest then
            for place = older, #text, 16 do
              local index, was = unpack_at('<dd', text, place)
              if index == x then
                back = min(-change, was)
                text = sub(text, 1, place - 1) .. pack('<dd', index, was - back) .. sub(text, place + 16)
                same = false
                break
              end
            end
          end
          counted = counted - back
        end
        used = counted
        if changes then keep_window(key, max(total + change, 0), newest, counted, current, text, older, same, d) end
      elseif kind == 3 then
        if now < b or now >= d then return pack('<dd', 2, now) end
        if now >= c then b, c = c, d end
        local total, period, counted, same = quota(value, key, b)
        if change > 0 then
          counted = counted + change
        elseif change < 0 and period == x then
          counted = max(counted + change, 0)
        end
        used, more = counted, period
        if changes then
          keep_quota(key, max(total + change, 0), period, counted, same, period > b and max(d, period) or c)
        end
      else
        if alone then used = call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf') end
        if mode == 0 and charged >= 0 then
          places[i] = places[i] or {}
          places[i][#places[i] + 1] = ARGV[one + 1]
          used = max(used - 1, 0)
        end
      end
      if alone then
        answer[i] = pack('<ddd', charged >= 0 and 1 or 0, used, more)
      elseif written > 0 then
        -- The next one finds what this one leaves.
        local left, way = writes[2], writes[3]
        written = 0
        if way == IN_PLACE then
          heads[i], kept[at], ways[i] = left, left .. sub(value, #left + 1), ways[i] or IN_PLACE
        else
          kept[at], ways[i] = left, way
        end
      end
    end
    if mode == 0 then
      over[#over + 1], over[KEYS[one]] = KEYS[one], true
    else
      record[1] = pack('<dddddd', PERMIT, deadline, limits, max(seen_input, input), max(seen_output, output), legs)
      record[2] = sub(permit, RECORD, legs - 1)
    end
  end
  if alone and status == 1 then
    if over[1] then call('DEL', over[1]) end
    return pack('<dd', 1, now)
  elseif not alone then
    answer[one] = pack('<d', status)
  end
end
for i = 1, limits do
  if ways[i] then keep(KEYS[permits + i], ways[i] == IN_PLACE and heads[i] or kept[permits + i], ways[i]) end
end
if over[1] then call('DEL', unpack(over)) end
if mark then call('SET', KEYS[1], '-', 'PX', 600000) end
if record[1] then
  local deadline = unpack_at('<d', record[1], 9)
  call('SET', KEYS[1], concat(record), 'PX', floor((deadline - now) / 1000) + 1000)
end
write_back()
for i = 1, limits do
  if places[i] then call('ZREM', KEYS[permits + i], unpack(places[i])) end
end
return pack('<dd', 0, now) .. concat(answer)
