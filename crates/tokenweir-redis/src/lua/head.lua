-- What all scripts begin with. No function is defined here: each would be an object that every run makes anew. Numbers are
-- doubles that hold whole numbers up to 2^53, packed as eight bytes each, the lowest first. Times are microseconds of the
-- server's clock.
local call, pack, unpack_at = redis.call, struct.pack, struct.unpack
local floor, min, max = math.floor, math.min, math.max
local sub, concat = string.sub, table.concat
local MOST = 9007199254740992
-- The first number of a counter's value: what it is, and the version of its format.
local BUCKET, WINDOW, QUOTA, PERMIT = 2001, 1002, 1003, 2005
-- A bucket's value: total, D, r, time, returned, B, R, epoch, when its key expires, then from here on its ticks.
local TICKS = 81
-- A window's value: total, newest sub-window, counted, counted in the newest, then from here on the older ones.
local OLDER = 41
-- A permit's record: PERMIT, when it expires, limits, observed input and output, where the limits' parts begin; what only its
-- settler reads; for each limit what it is charged, what it was charged at first, and the head of its counter right after that
-- (0 in flight, and where nothing was charged: -1), of a bucket also what had been taken from its tick.
local RECORD = 49
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
