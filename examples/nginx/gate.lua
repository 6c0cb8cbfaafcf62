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
local C, done, made, struct = tokenweir.C, tokenweir.done, tokenweir.made, tokenweir.struct

local OPENAI, MOST_HELD, ABSENT = 1, 4096, 0xffffffffffffffffULL

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
  local policy = made("tokenweir_policy", C.tokenweir_policy_free, C.tokenweir_policy_from_toml, source, #source)
  local region = settings.region:sub(1, 1) == "/" and settings.region or ngx.config.prefix() .. settings.region
  local ttl = 1000000000ULL * (settings.permit_ttl or 600)
  return setmetatable({ policy = policy, path = region, output = settings.output or 256, ttl = ttl }, Gate)
end

-- Puts this worker on the region. In the worker, after it was forked, and as the user that it runs as.
function Gate:start()
  local region = made("tokenweir_shared_region", C.tokenweir_shared_region_free, C.tokenweir_shared_region_open, self.path,
    #self.path, self.policy, nil)
  local options = struct("tokenweir_options", { region = region, permit_ttl_ns = self.ttl, policy_of_region = 1 })
  self.limiter = made("tokenweir_limiter", C.tokenweir_limiter_free, C.tokenweir_limiter_new, self.policy, options)
  -- The master has read the file at the last reload: it is the newer one. The first worker of all changes it.
  local changed, why = pcall(done, C.tokenweir_limiter_swap_policy, self.limiter, self.policy, nil)
  if not changed then
    ngx.log(ngx.ERR, "the policy stays as it was: ", why)
  end
end

-- Sets the headers of an answer; its status and its body.
local function read(answer)
  local view = struct("tokenweir_answer_view")
  done(C.tokenweir_answer_read, answer, view)
  for at = 0, tonumber(view.header_count) - 1 do
    ngx.header[ffi.string(view.headers[at].name)] = ffi.string(view.headers[at].value)
  end
  return tonumber(view.status), ffi.string(view.body, view.body_length)
end

-- Answers the client instead of the upstream.
local function answer(answer)
  local status, body = read(answer)
  ngx.status = status
  ngx.print(body)
  return ngx.exit(status)
end

local function fail(status, message)
  return answer(made("tokenweir_answer", C.tokenweir_answer_free, C.tokenweir_answer_failed, OPENAI, status, message, #message))
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
  local asked = struct("tokenweir_asked")
  local valid, why = pcall(done, C.tokenweir_wire_request_read, 0, path, #path, body, #body, asked)
  if not valid then
    return fail(400, tostring(why))
  end
  if asked.model == nil or asked.model_length == 0 then
    return fail(400, "the request names no model; name one in the field \"model\"")
  end
  local request = struct("tokenweir_request", {
    project = project, project_length = #project, deployment = asked.model, deployment_length = asked.model_length,
  })
  local rule, estimate = struct("tokenweir_output_rule", { tokens = self.output }), struct("tokenweir_estimate")
  local decision, place = struct("tokenweir_decision"), ffi.new("tokenweir_denial *[1]")
  local decided, wrong = pcall(function()
    done(C.tokenweir_wire_estimate, asked, rule, self.limiter, request, estimate)
    done(C.tokenweir_limiter_admit, self.limiter, request, estimate, nil, decision, place)
  end)
  if not decided then
    ngx.log(ngx.ERR, wrong)
    return fail(503, "the request could not be decided on; try again later")
  end
  if decision.admitted ~= 1 then
    local denial = ffi.gc(place[0], C.tokenweir_denial_free)
    return answer(made("tokenweir_answer", C.tokenweir_answer_free, C.tokenweir_answer_refused, self.limiter, denial, OPENAI,
      0, nil))
  end
  local call = { permit = decision.permit, api = asked.api, renewed = ngx.now() }
  ngx.ctx.call = call
  -- A stream is asked to end with its usage; a client that did not ask for it does not see it.
  local client_asked, sent = ffi.new("uint32_t[1]"), ffi.new("tokenweir_text *[1]")
  done(C.tokenweir_wire_ask_usage, call.api, body, #body, client_asked, sent)
  if sent[0] ~= nil then
    ngx.req.set_body_data(ffi.string(C.tokenweir_text_chars(ffi.gc(sent[0], C.tokenweir_text_free))))
  end
  if asked.stream == 1 and client_asked[0] == 0 then
    call.filter = made("tokenweir_usage_chunk_filter", C.tokenweir_usage_chunk_filter_free,
      C.tokenweir_usage_chunk_filter_new)
  end
end

-- Says how the limits stand, and looks at what is coming.
function Gate:header_filter()
  local call = ngx.ctx.call
  if call == nil then
    return
  end
  local content_type = ngx.header.content_type or ""
  call.meter = made("tokenweir_response_meter", C.tokenweir_response_meter_free, C.tokenweir_response_meter_new, call.api,
    content_type, #content_type)
  read(made("tokenweir_answer", C.tokenweir_answer_free, C.tokenweir_answer_admitted, self.limiter, call.permit, OPENAI, 0, nil))
  if content_type:sub(1, 17) ~= "text/event-stream" then
    call.filter = nil
  elseif call.filter ~= nil then
    ngx.header.content_length = nil
  end
end

-- Counts a piece of the response, and charges what goes beyond the estimate as it comes.
function Gate:body_filter()
  local call = ngx.ctx.call
  if call == nil or call.meter == nil then
    return
  end
  local chunk, last = ngx.arg[1], ngx.arg[2]
  local output = ffi.new("uint64_t[1]")
  done(C.tokenweir_response_meter_feed, call.meter, chunk, #chunk, output)
  if output[0] > 0 then
    pcall(done, C.tokenweir_limiter_observe, self.limiter, call.permit, 0, output[0], nil, nil)
  end
  if (ngx.now() - call.renewed) * 4e9 > tonumber(self.ttl) then
    pcall(done, C.tokenweir_limiter_renew, self.limiter, call.permit, self.ttl, nil)
    call.renewed = ngx.now()
  end
  if call.filter ~= nil then
    local room, written = #chunk + MOST_HELD, ffi.new("size_t[1]")
    local out = ffi.new("char[?]", room)
    done(C.tokenweir_usage_chunk_filter_feed, call.filter, chunk, #chunk, out, room, written)
    local passed = ffi.string(out, written[0])
    if last then
      done(C.tokenweir_usage_chunk_filter_finish, call.filter, out, room, written)
      passed = passed .. ffi.string(out, written[0])
    end
    ngx.arg[1] = passed
  end
end

-- Settles the call, whatever became of it: by its usage; by nothing where it failed, and reports none; by the estimate where
-- the upstream had it and never answered. One that never reached the upstream is cancelled.
function Gate:log()
  local call = ngx.ctx.call
  if call == nil then
    return
  end
  ngx.ctx.call = nil
  local settled, why
  if not tostring(ngx.var.upstream_connect_time or ""):find("%d") then
    settled, why = pcall(done, C.tokenweir_limiter_cancel, self.limiter, call.permit, nil, nil)
  else
    local usage = struct("tokenweir_usage", { input = ABSENT, cached_input = ABSENT, output = ABSENT })
    if call.meter ~= nil and tostring(ngx.var.upstream_header_time or ""):find("%d") then
      local measured = struct("tokenweir_measured")
      done(C.tokenweir_response_meter_measured, call.meter, measured)
      usage = measured.usage
      if ngx.status >= 400 and usage.input == ABSENT then
        usage = struct("tokenweir_usage")
      end
    end
    settled, why = pcall(done, C.tokenweir_limiter_settle, self.limiter, call.permit, usage, nil, nil)
  end
  if not settled then
    -- It has expired meanwhile: its estimate stands.
    ngx.log(ngx.WARN, why)
  end
end

return Gate
