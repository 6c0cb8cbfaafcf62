-- tokenweir as the limiter of nginx (Debian's Lua module, OpenResty): admits in access, counts what comes back in body_filter,
-- settles in log. Each worker has a limiter of its own, and all are on one shared region, so that a limit counts once.
--
--   init_by_lua_block        { gate = require("gate").new { policy = "policy.toml", region = "/dev/shm/gateway.tokenweir" } }
--   init_worker_by_lua_block { gate:start() }
--   access_by_lua_block      { gate:access(ngx.var.project) }
--   header_filter_by_lua_block { gate:header_filter() }
--   body_filter_by_lua_block { gate:body_filter() }
--   log_by_lua_block         { gate:log() }
local ffi = require("ffi")
local tokenweir = require("tokenweir")
local C, done, wrong, place, owned, struct =
  tokenweir.C, tokenweir.done, tokenweir.wrong, tokenweir.place, tokenweir.owned, tokenweir.struct

local OPENAI = 1

-- What each call of the library reads and fills, made once for each worker: it runs one request at a time, from one wait to the
-- next, and none of these is used across a wait.
local asked, request, estimate = struct("tokenweir_asked"), struct("tokenweir_request"), struct("tokenweir_estimate")
local rule, decision, view = struct("tokenweir_output_rule"), struct("tokenweir_decision"), struct("tokenweir_answer_view")
local head, usage = struct("tokenweir_response_head", { dialect = OPENAI }), struct("tokenweir_usage")
local flag, text, answered = ffi.new("uint32_t[1]"), place("tokenweir_text"), place("tokenweir_answer")

local Gate = {}
Gate.__index = Gate

-- `policy` and `region` are files; a path that does not begin with / is below nginx's prefix. `output`: the tokens that a
-- request is expected to take which states no bound (256). `permit_ttl`: the seconds after which a request of a worker that
-- was killed is let go of (600). A wrong policy stops nginx as it starts; at a reload it goes on as before.
function Gate.new(settings)
  local path = settings.policy:sub(1, 1) == "/" and settings.policy or ngx.config.prefix() .. settings.policy
  local file = assert(io.open(path, "rb"))
  local source = file:read("*a")
  file:close()
  local policy = place("tokenweir_policy")
  done(C.tokenweir_policy_from_toml(source, #source, policy, wrong))
  policy = owned(policy, C.tokenweir_policy_free)
  local region = settings.region:sub(1, 1) == "/" and settings.region or ngx.config.prefix() .. settings.region
  local ttl = 1000000000ULL * (settings.permit_ttl or 600)
  return setmetatable({ policy = policy, path = region, output = settings.output or 256, ttl = ttl }, Gate)
end

-- Puts this worker on the region. In the worker, after it was forked, and as the user that it runs as.
function Gate:start()
  local region, limiter = place("tokenweir_shared_region"), place("tokenweir_limiter")
  done(C.tokenweir_shared_region_open(self.path, #self.path, self.policy, nil, region, wrong))
  region = owned(region, C.tokenweir_shared_region_free)
  local options = struct("tokenweir_options", { region = region, permit_ttl_ns = self.ttl, policy_of_region = 1 })
  done(C.tokenweir_limiter_new(self.policy, options, limiter, wrong))
  self.limiter = owned(limiter, C.tokenweir_limiter_free)
  -- The master has read the file at the last reload: it is the newer one. The first worker of all changes it.
  local changed, why = pcall(done, C.tokenweir_limiter_swap_policy(self.limiter, self.policy, nil, wrong))
  if not changed then
    ngx.log(ngx.ERR, "the policy stays as it was: ", why)
  end
end

-- Sets the headers of the answer that a call has made; its status and its body.
local function read()
  local answer = owned(answered, C.tokenweir_answer_free)
  done(C.tokenweir_answer_read(answer, view, wrong))
  for at = 0, tonumber(view.header_count) - 1 do
    ngx.header[ffi.string(view.headers[at].name)] = ffi.string(view.headers[at].value)
  end
  return tonumber(view.status), ffi.string(view.body, view.body_length)
end

-- Answers the client instead of the upstream.
local function answer()
  local status, body = read()
  ngx.status = status
  ngx.print(body)
  return ngx.exit(status)
end

local function fail(status, message)
  done(C.tokenweir_answer_failed(OPENAI, status, message, #message, answered, wrong))
  return answer()
end

-- The body of the request, which nginx may have put in a file.
local function body_of_request()
  ngx.req.read_body()
  local body, path = ngx.req.get_body_data(), ngx.req.get_body_file()
  if body == nil and path ~= nil then
    local file = assert(io.open(path, "rb"))
    body = file:read("*a")
    file:close()
  end
  return body or ""
end

-- Holds what the request may take, or answers it with 429, 403 or what else is wrong with it.
function Gate:access(project)
  local path = ngx.var.request_uri
  if ngx.req.get_method() ~= "POST" or C.tokenweir_wire_api_of(path, #path) == 0 then
    return
  end
  if project == nil or project == "" then
    return fail(401, "the API key is not known")
  end
  if self.limiter == nil then
    -- The error log says why it did not start; perhaps it does now.
    local started, why = pcall(self.start, self)
    if not started then
      ngx.log(ngx.ERR, why)
      return fail(503, "the limiter is not there; try again later")
    end
  end
  local body = body_of_request()
  local code = C.tokenweir_wire_request_read(0, path, #path, body, #body, asked, wrong)
  if code ~= 0 then
    return fail(400, select(2, pcall(done, code)))
  end
  if asked.model_length == 0 then
    return fail(400, "the request names no model; name one in the field \"model\"")
  end
  request.project, request.project_length = project, #project
  request.deployment, request.deployment_length = asked.model, asked.model_length
  rule.tokens = self.output
  local denial = place("tokenweir_denial")
  code = C.tokenweir_wire_estimate(asked, rule, self.limiter, request, estimate, wrong)
  if code == 0 then
    code = C.tokenweir_limiter_admit(self.limiter, request, estimate, nil, decision, denial, wrong)
  end
  if code ~= 0 then
    ngx.log(ngx.ERR, select(2, pcall(done, code)))
    return fail(503, "the request could not be decided on; try again later")
  end
  if decision.admitted ~= 1 then
    denial = owned(denial, C.tokenweir_denial_free)
    done(C.tokenweir_answer_refused(self.limiter, denial, OPENAI, 0, nil, answered, wrong))
    return answer()
  end
  local call = { permit = decision.permit }
  ngx.ctx.call = call
  local exchange = place("tokenweir_exchange")
  done(C.tokenweir_exchange_new(self.limiter, asked.api, call.permit, estimate, nil, nil, exchange, wrong))
  call.exchange = owned(exchange, C.tokenweir_exchange_free)
  -- A stream is asked to end with its usage; a client that did not ask for it does not see it.
  done(C.tokenweir_wire_ask_usage(asked.api, body, #body, flag, text, wrong))
  local sent = owned(text, C.tokenweir_text_free)
  if sent then
    ngx.req.set_body_data(ffi.string(C.tokenweir_text_chars(sent), C.tokenweir_text_length(sent)))
  end
  call.withhold_usage = asked.stream == 1 and flag[0] == 0 and 1 or 0
end

-- Says how the limits stand, and looks at what is coming.
function Gate:header_filter()
  local call = ngx.ctx.call
  if call == nil then
    return
  end
  -- An error page of nginx's own is no answer of the upstream.
  if not tostring(ngx.var.upstream_header_time or ""):find("%d") then
    return
  end
  local content_type, coding = ngx.header.content_type or "", ngx.header.content_encoding or ""
  head.status, head.withhold_usage = ngx.status, call.withhold_usage
  head.content_type, head.content_type_length = content_type, #content_type
  head.content_encoding, head.content_encoding_length = coding, #coding
  done(C.tokenweir_exchange_answered(call.exchange, head, wrong))
  call.answered = true
  if C.tokenweir_exchange_keeps_length(call.exchange) == 0 then
    ngx.header.content_length = nil
  end
  if C.tokenweir_answer_admitted(self.limiter, call.permit, OPENAI, 0, nil, answered, wrong) == 0 then
    read()
  end
end

-- Counts a piece of the response, charges what goes beyond the estimate as it comes, and ends a stream whose quota is spent.
function Gate:body_filter()
  local call = ngx.ctx.call
  if call == nil or not call.answered then
    return
  end
  if call.over then
    -- Its client has all that it gets: the upstream is let go of.
    ngx.arg[1] = nil
    return ngx.ERROR
  end
  local chunk, last = ngx.arg[1], ngx.arg[2] and 1 or 0
  done(C.tokenweir_exchange_passes(call.exchange, chunk, #chunk, last, nil, text, flag, wrong))
  local instead = owned(text, C.tokenweir_text_free)
  if instead then
    ngx.arg[1] = ffi.string(C.tokenweir_text_chars(instead), C.tokenweir_text_length(instead))
  end
  if flag[0] == 1 then
    call.over = true
    ngx.arg[2] = true
  end
end

-- Settles the call, whatever became of it, by the rules of the library. One that never reached the upstream is cancelled.
function Gate:log()
  local call = ngx.ctx.call
  if call == nil then
    return
  end
  ngx.ctx.call = nil
  local code
  if not tostring(ngx.var.upstream_connect_time or ""):find("%d") then
    code = C.tokenweir_limiter_cancel(self.limiter, call.permit, nil, nil, wrong)
  else
    done(C.tokenweir_exchange_used(call.exchange, call.answered and 0 or 1, usage, wrong))
    code = C.tokenweir_limiter_settle(self.limiter, call.permit, usage, nil, nil, wrong)
  end
  if code ~= 0 then
    -- It has expired meanwhile: its estimate stands.
    ngx.log(ngx.WARN, select(2, pcall(done, code)))
  end
end

return Gate
