-- tokenweir.h for LuaJIT's FFI, as far as the examples need it, and short ways to call it. Calls are written out, without varying
-- numbers of arguments, so that LuaJIT compiles them.
local ffi = require("ffi")

ffi.cdef [[
typedef struct tokenweir_error tokenweir_error;
typedef struct tokenweir_policy tokenweir_policy;
typedef struct tokenweir_clock tokenweir_clock;
typedef struct tokenweir_ring tokenweir_ring;
typedef struct tokenweir_shared_region tokenweir_shared_region;
typedef struct tokenweir_limiter tokenweir_limiter;
typedef struct tokenweir_denial tokenweir_denial;
typedef struct tokenweir_text tokenweir_text;
typedef struct tokenweir_answer tokenweir_answer;
typedef struct tokenweir_response_meter tokenweir_response_meter;
typedef struct tokenweir_usage_chunk_filter tokenweir_usage_chunk_filter;
typedef struct tokenweir_exchange tokenweir_exchange;
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
  uint64_t max_counters, max_routes, max_permits, permit_ttl_ns, max_histories;
  const struct tokenweir_store_options *store;
  const tokenweir_shared_region *region;
  uint32_t policy_of_region, reserved[1];
} tokenweir_options;
typedef struct {
  uint32_t size, api, stream, include_usage, input_elsewhere, model_length;
  uint64_t input, output, answers;
  char model[264];
  uint64_t reserved[4];
} tokenweir_asked;
typedef struct {
  uint32_t size, share_per_mille;
  uint64_t tokens, per_mille_of_input, reserved[4];
} tokenweir_output_rule;
typedef struct {
  uint32_t size, ended, estimated, reserved0;
  tokenweir_usage usage;
  uint64_t cache_write, audio_input, reasoning, audio_output, reserved[4];
} tokenweir_measured;
typedef struct { uint32_t size, cut, failed, unanswered; uint64_t reserved[4]; } tokenweir_call_rules;
typedef struct {
  uint32_t size, status, dialect, withhold_usage;
  const char *content_type; size_t content_type_length;
  const char *content_encoding; size_t content_encoding_length;
  uint64_t reserved[4];
} tokenweir_response_head;
typedef struct {
  uint32_t size, status;
  const tokenweir_key *headers; size_t header_count;
  const char *body; size_t body_length;
  uint64_t reserved[4];
} tokenweir_answer_view;

uint32_t tokenweir_abi_version(void);
const char *tokenweir_code_name(int32_t code);
const char *tokenweir_error_message(const tokenweir_error *error);
void tokenweir_error_free(tokenweir_error *error);
const char *tokenweir_text_chars(const tokenweir_text *text);
size_t tokenweir_text_length(const tokenweir_text *text);
void tokenweir_text_free(tokenweir_text *text);
int32_t tokenweir_policy_from_toml(const char *, size_t, tokenweir_policy **, tokenweir_error **);
void tokenweir_policy_free(tokenweir_policy *policy);
int32_t tokenweir_clock_new_manual(const tokenweir_now *, tokenweir_clock **, tokenweir_error **);
void tokenweir_clock_free(tokenweir_clock *clock);
int32_t tokenweir_shared_region_open(const char *, size_t, const tokenweir_policy *, const struct tokenweir_region_layout *,
                                     tokenweir_shared_region **, tokenweir_error **);
void tokenweir_shared_region_free(tokenweir_shared_region *region);
int32_t tokenweir_limiter_new(const tokenweir_policy *, const tokenweir_options *, tokenweir_limiter **,
                              tokenweir_error **);
int32_t tokenweir_limiter_swap_policy(const tokenweir_limiter *, const tokenweir_policy *, const tokenweir_now *,
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
void tokenweir_denial_free(tokenweir_denial *denial);

uint32_t tokenweir_wire_api_of(const char *, size_t);
int32_t tokenweir_wire_request_read(uint32_t, const char *, size_t, const char *, size_t, tokenweir_asked *,
                                    tokenweir_error **);
int32_t tokenweir_wire_estimate(const tokenweir_asked *, const tokenweir_output_rule *, const tokenweir_limiter *,
                                const tokenweir_request *, tokenweir_estimate *, tokenweir_error **);
int32_t tokenweir_wire_ask_usage(uint32_t, const char *, size_t, uint32_t *, tokenweir_text **, tokenweir_error **);
int32_t tokenweir_response_meter_new(uint32_t, const char *, size_t, tokenweir_response_meter **, tokenweir_error **);
int32_t tokenweir_response_meter_feed(const tokenweir_response_meter *, const char *, size_t, uint64_t *,
                                      tokenweir_error **);
int32_t tokenweir_response_meter_measured(const tokenweir_response_meter *, tokenweir_measured *, tokenweir_error **);
void tokenweir_response_meter_free(tokenweir_response_meter *meter);
int32_t tokenweir_usage_chunk_filter_new(tokenweir_usage_chunk_filter **, tokenweir_error **);
int32_t tokenweir_usage_chunk_filter_feed(const tokenweir_usage_chunk_filter *, const char *, size_t, char *, size_t,
                                          size_t *, tokenweir_error **);
int32_t tokenweir_usage_chunk_filter_finish(const tokenweir_usage_chunk_filter *, char *, size_t, size_t *,
                                            tokenweir_error **);
void tokenweir_usage_chunk_filter_free(tokenweir_usage_chunk_filter *filter);
int32_t tokenweir_exchange_new(const tokenweir_limiter *, uint32_t, uint64_t, const tokenweir_estimate *,
                               const tokenweir_call_rules *, const tokenweir_now *, tokenweir_exchange **, tokenweir_error **);
int32_t tokenweir_exchange_answered(const tokenweir_exchange *, const tokenweir_response_head *, tokenweir_error **);
uint32_t tokenweir_exchange_keeps_length(const tokenweir_exchange *);
int32_t tokenweir_exchange_passes(const tokenweir_exchange *, const char *, size_t, uint32_t, const tokenweir_now *,
                                  tokenweir_text **, uint32_t *, tokenweir_error **);
int32_t tokenweir_exchange_used(const tokenweir_exchange *, uint32_t, tokenweir_usage *, tokenweir_error **);
void tokenweir_exchange_free(tokenweir_exchange *exchange);
int32_t tokenweir_answer_refused(const tokenweir_limiter *, const tokenweir_denial *, uint32_t, uint32_t,
                                 const tokenweir_now *, tokenweir_answer **, tokenweir_error **);
int32_t tokenweir_answer_admitted(const tokenweir_limiter *, uint64_t, uint32_t, uint32_t, const tokenweir_now *,
                                  tokenweir_answer **, tokenweir_error **);
int32_t tokenweir_answer_read(const tokenweir_answer *, tokenweir_answer_view *, tokenweir_error **);
int32_t tokenweir_answer_failed(uint32_t, uint32_t, const char *, size_t, tokenweir_answer **, tokenweir_error **);
void tokenweir_answer_free(tokenweir_answer *answer);
]]

local C = ffi.load("tokenweir")
assert(C.tokenweir_abi_version() == 1, "another release of the library than this was written for")

-- `wrong` is the place for the error of any call, its last argument. Each call clears it, and in one state of Lua no two run at
-- once.
local wrong = ffi.new("tokenweir_error *[1]")
local tokenweir = { C = C, wrong = wrong }

-- Raises what a call has failed at: done(C.tokenweir_...(..., wrong)).
function tokenweir.done(code)
  if code ~= 0 then
    local message = ffi.string(C.tokenweir_code_name(code)) .. ": " .. ffi.string(C.tokenweir_error_message(wrong[0]))
    C.tokenweir_error_free(wrong[0])
    error(message)
  end
end

-- A place for a handle of this type, which a call makes.
function tokenweir.place(type)
  return ffi.new(type .. " *[1]")
end

-- The handle that a call has put there, freed with the value; nil if it put none.
function tokenweir.owned(place, free)
  if place[0] == nil then
    return nil
  end
  return ffi.gc(place[0], free)
end

-- A plain struct that says its size.
function tokenweir.struct(type, fields)
  local value = ffi.new(type, fields or {})
  value.size = ffi.sizeof(type)
  return value
end

return tokenweir
