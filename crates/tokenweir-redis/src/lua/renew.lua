-- Lets a permit live for so long from now on. KEYS: the permit, then the counters of its in-flight limits.
-- ARGV: numbers (time to live), the permit's id. Answer: status (0 done, 1 there is no such permit), now.
local ttl = unpack_at('<d', ARGV[1])
local permit = call('GET', KEYS[1])
if not permit then return pack('<dd', 1, now) end
local kind_of, deadline = unpack_at('<dd', permit)
if kind_of ~= PERMIT then
  error('TOKENWEIR the value under ' .. KEYS[1] .. ' is not a permit', 0)
end
if deadline <= now then
  call('DEL', KEYS[1])
  return pack('<dd', 1, now)
end
call('SET', KEYS[1], pack('<dd', PERMIT, now + ttl) .. sub(permit, 17), 'PX', floor(ttl / 1000) + 1000)
for i = 2, #KEYS do
  call('ZADD', KEYS[i], 'XX', now + ttl, ARGV[2])
  lives(KEYS[i], ttl)
end
return pack('<dd', 0, now)
