-- The same as gateway.c in LuaJIT, by FFI: luajit gateway.lua policy.toml
local ffi = require("ffi")

ffi.cdef [[
typedef struct tokenweir_error tokenweir_error;
typedef struct tokenweir_policy tokenweir_policy;
typedef struct tokenweir_clock tokenweir_clock;
typedef struct tokenweir_ring tokenweir_ring;
typedef struct tokenweir_limiter tokenweir_limiter;
typedef struct tokenweir_denial tokenweir_denial;
typedef struct tokenweir_text tokenweir_text;
typedef struct { uint64_t mono; int64_t wall; } tokenweir_now;
typedef struct { uint32_t size, reserved0; uint64_t input, output, reserved[4]; } tokenweir_estimate;
typedef struct { uint32_t size, reserved0; uint64_t input, cached_input, output, reserved[4]; } tokenweir_usage;
typedef struct { const char *name; size_t name_length; const char *value; size_t value_length; } tokenweir_key;
typedef struct {
  uint32_t size, reserved0;
  const char *project; size_t project_length;
  const char *deployment; size_t deployment_length;
  const tokenweir_key *keys; size_t key_count;
  uint64_t reserved[4];
} tokenweir_request;
typedef struct {
  uint32_t size, admitted;
  uint64_t permit, retry_after_ns, retry_after_seconds;
  int64_t remaining;
  uint64_t fits_now;
  uint32_t status, never_fits, table_full, refusals, limit_length, reserved0;
  char limit[64];
  uint64_t reserved[4];
} tokenweir_decision;
typedef struct {
  uint32_t size, outcome;
  uint64_t permit, input, cached_input, output;
  uint32_t estimated, reserved0;
  uint64_t reserved[4];
} tokenweir_settlement;
typedef struct {
  uint32_t size, when_full;
  const tokenweir_clock *clock;
  const tokenweir_ring *ring;
  uint64_t max_counters, max_routes, max_permits, permit_ttl_ns, max_histories, reserved[3];
} tokenweir_options;

uint32_t tokenweir_abi_version(void);
const char *tokenweir_code_name(int32_t code);
const char *tokenweir_error_message(const tokenweir_error *error);
void tokenweir_error_free(tokenweir_error *error);
const char *tokenweir_text_chars(const tokenweir_text *text);
void tokenweir_text_free(tokenweir_text *text);
int32_t tokenweir_policy_from_toml(const char *, size_t, tokenweir_policy **, tokenweir_error **);
void tokenweir_policy_free(tokenweir_policy *policy);
int32_t tokenweir_clock_new_manual(const tokenweir_now *, tokenweir_clock **, tokenweir_error **);
void tokenweir_clock_free(tokenweir_clock *clock);
int32_t tokenweir_limiter_new(const tokenweir_policy *, const tokenweir_options *, tokenweir_limiter **,
                              tokenweir_error **);
void tokenweir_limiter_free(tokenweir_limiter *limiter);
int32_t tokenweir_limiter_admit(const tokenweir_limiter *, const tokenweir_request *, const tokenweir_estimate *,
                                const tokenweir_now *, tokenweir_decision *, tokenweir_denial **, tokenweir_error **);
int32_t tokenweir_limiter_observe(const tokenweir_limiter *, uint64_t, uint64_t, uint64_t, const tokenweir_now *,
                                  uint32_t *, tokenweir_error **);
int32_t tokenweir_limiter_settle(const tokenweir_limiter *, uint64_t, const tokenweir_usage *, const tokenweir_now *,
                                 tokenweir_settlement *, tokenweir_error **);
int32_t tokenweir_limiter_cancel(const tokenweir_limiter *, uint64_t, const tokenweir_now *, tokenweir_settlement *,
                                 tokenweir_error **);
int32_t tokenweir_limiter_permit(const tokenweir_limiter *, uint64_t, const tokenweir_now *, tokenweir_text **,
                                 tokenweir_error **);
]]

local C = ffi.load("tokenweir")
assert(C.tokenweir_abi_version() == 1, "another release of the library than this was written for")

-- Calls a function with a place for its error, and raises what it says.
local function done(call, ...)
  local place = ffi.new("tokenweir_error *[1]")
  local count = select("#", ...)
  local arguments = { ... }
  arguments[count + 1] = place
  local code = call(unpack(arguments, 1, count + 1))
  if code ~= 0 then
    local message = ffi.string(C.tokenweir_code_name(code)) .. ": " .. ffi.string(C.tokenweir_error_message(place[0]))
    C.tokenweir_error_free(place[0])
    error(message)
  end
end

-- A handle that a call makes, freed with the value.
local function made(type, free, call, ...)
  local place = ffi.new(type .. " *[1]")
  local count = select("#", ...)
  local arguments = { ... }
  arguments[count + 1] = place
  done(call, unpack(arguments, 1, count + 1))
  return ffi.gc(place[0], free)
end

-- A plain struct that says its size.
local function struct(type, fields)
  local value = ffi.new(type, fields or {})
  value.size = ffi.sizeof(type)
  return value
end

local source = assert(io.open(arg[1], "rb")):read("*a")
local policy = made("tokenweir_policy", C.tokenweir_policy_free, C.tokenweir_policy_from_toml, source, #source)
local clock = made("tokenweir_clock", C.tokenweir_clock_free, C.tokenweir_clock_new_manual, nil)
local options = struct("tokenweir_options", { clock = clock })
local limiter = made("tokenweir_limiter", C.tokenweir_limiter_free, C.tokenweir_limiter_new, policy, options)

local function admit(project, input, output)
  local deployment = "gpt-4o"
  local request = struct("tokenweir_request", {
    project = project, project_length = #project, deployment = deployment, deployment_length = #deployment,
  })
  local estimate = struct("tokenweir_estimate", { input = input, output = output })
  local decision = struct("tokenweir_decision")
  done(C.tokenweir_limiter_admit, limiter, request, estimate, nil, decision, nil)
  if decision.admitted == 1 then
    print(project .. ": admitted")
  else
    print(string.format("%s: denied by %s, status %d, %d ms to wait, Retry-After: %d", project,
      ffi.string(decision.limit), decision.status, tonumber(decision.retry_after_ns / 1000000),
      tonumber(decision.retry_after_seconds)))
  end
  return decision.permit
end

local spent = ffi.new("uint32_t[1]")
local permit = admit("search", 900, 400)
for _ = 1, 4 do
  done(C.tokenweir_limiter_observe, limiter, permit, 0, 95, nil, spent)
end
print("search: 380 tokens streamed, spent: " .. spent[0])
local usage = struct("tokenweir_usage", { input = 912, cached_input = 512, output = 380 })
local settlement = struct("tokenweir_settlement")
done(C.tokenweir_limiter_settle, limiter, permit, usage, nil, settlement)
print(string.format("search: settled %d input, %d of them cached, %d output", tonumber(settlement.input),
  tonumber(settlement.cached_input), tonumber(settlement.output)))

permit = admit("chat", 1200, 400)
admit("chat", 1000, 500)
local text = made("tokenweir_text", C.tokenweir_text_free, C.tokenweir_limiter_permit, limiter, permit, nil)
print("chat: " .. ffi.string(C.tokenweir_text_chars(text)):match('"remaining".*'))
done(C.tokenweir_limiter_cancel, limiter, permit, nil, nil)
admit("chat", 1000, 500)
