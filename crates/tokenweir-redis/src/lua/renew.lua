-- Lets a permit live for so long from now on, and hold its places; also those that were free for a while, since nobody had renewed
-- them. KEYS: the permit, then each limit's counter. ARGV: numbers, the permit's id.
-- numbers: time to live (0: as it is), limits, for each how long its place is held (0: it is not in flight).
-- Answer: status (0 done, 1 there is no such permit), now.
local ttl, limits = unpack_at('<dd', ARGV[1])
local permit = call('GET', KEYS[1])
if not permit or #permit == 1 then return pack('<dd', 1, now) end
local kind_of, deadline, count, _, _, leg = unpack_at('<dddddd', permit)
if kind_of ~= PERMIT or count ~= limits then
  error('TOKENWEIR the value under ' .. KEYS[1] .. ' is not the permit that was asked for', 0)
end
if deadline <= now then
  call('DEL', KEYS[1])
  return pack('<dd', 1, now)
end
if ttl > 0 then
  deadline = now + ttl
  call('SET', KEYS[1], pack('<dd', PERMIT, deadline) .. sub(permit, 17), 'PX', floor(ttl / 1000) + 1000)
end
for i = 1, limits do
  local held = unpack_at('<d', ARGV[1], 9 + 8 * i)
  local charged, _, version = unpack_at('<ddd', permit, leg)
  leg = leg + (version == BUCKET and 104 or version == WINDOW and 56 or version == QUOTA and 48 or 24)
  if held > 0 and charged >= 0 then
    call('ZADD', KEYS[i + 1], min(now + held, deadline), ARGV[2])
    lives(KEYS[i + 1], deadline - now)
  end
end
return pack('<dd', 0, now)
