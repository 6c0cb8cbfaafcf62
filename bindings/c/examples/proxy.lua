-- The same as proxy.c in LuaJIT, by FFI: luajit proxy.lua policy.toml
local ffi = require("ffi")
package.path = arg[0]:match("^(.-)[^/]*$") .. "?.lua;" .. package.path
local tokenweir = require("tokenweir")
local C, done, made, struct = tokenweir.C, tokenweir.done, tokenweir.made, tokenweir.struct

local OPENAI, MOST_HELD, CHUNK = 1, 4096, 23

-- What a client sends, and what the upstream will answer, in chunks cut anywhere.
local path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
local streamed = '{"stream":true,"messages":[{"role":"user","content":"When is high water?"}]}'
local bounded = '{"max_tokens":1500,"messages":[{"role":"user","content":"And low water?"}]}'
local stream = 'data: {"choices":[{"delta":{"content":"At noon, "}}],"usage":null}\n\n'
  .. 'data: {"choices":[{"delta":{"content":"more or less."},"finish_reason":"stop"}],"usage":null}\n\n'
  .. 'data: {"choices":[],"usage":{"prompt_tokens":13,"completion_tokens":7}}\n\n'
  .. "data: [DONE]\n\n"

local source = assert(io.open(arg[1], "rb")):read("*a")
local policy = made("tokenweir_policy", C.tokenweir_policy_free, C.tokenweir_policy_from_toml, source, #source)
-- A clock that stands still makes the output below the same every time; without it the system's is used.
local clock = made("tokenweir_clock", C.tokenweir_clock_free, C.tokenweir_clock_new_manual, nil)
local options = struct("tokenweir_options", { clock = clock })
local limiter = made("tokenweir_limiter", C.tokenweir_limiter_free, C.tokenweir_limiter_new, policy, options)

local function show(answer)
  local view = struct("tokenweir_answer_view")
  done(C.tokenweir_answer_read, answer, view)
  if view.status ~= 0 then
    print(view.status)
  end
  for at = 0, tonumber(view.header_count) - 1 do
    print("  " .. ffi.string(view.headers[at].name) .. ": " .. ffi.string(view.headers[at].value))
  end
  if view.body_length > 0 then
    print("  " .. ffi.string(view.body, view.body_length))
  end
end

-- The permit, 0 if the client has been refused, and the API.
local function admit(body)
  local asked = struct("tokenweir_asked")
  done(C.tokenweir_wire_request_read, 0, path, #path, body, #body, asked)
  local project = "search"
  local request = struct("tokenweir_request", {
    project = project, project_length = #project, deployment = asked.model, deployment_length = asked.model_length,
  })
  local rule, estimate = struct("tokenweir_output_rule", { tokens = 400 }), struct("tokenweir_estimate")
  done(C.tokenweir_wire_estimate, asked, rule, limiter, request, estimate)
  local decision, place = struct("tokenweir_decision"), ffi.new("tokenweir_denial *[1]")
  done(C.tokenweir_limiter_admit, limiter, request, estimate, nil, decision, place)
  print(string.format("%s: %d input and %d output tokens, %s", ffi.string(asked.model), tonumber(estimate.input),
    tonumber(estimate.output), decision.admitted == 1 and "admitted" or "refused"))
  if decision.admitted == 1 then
    show(made("tokenweir_answer", C.tokenweir_answer_free, C.tokenweir_answer_admitted, limiter, decision.permit, OPENAI, 0,
      nil))
  else
    local denial = ffi.gc(place[0], C.tokenweir_denial_free)
    show(made("tokenweir_answer", C.tokenweir_answer_free, C.tokenweir_answer_refused, limiter, denial, OPENAI, 1, nil))
  end
  return decision.permit, asked.api
end

-- Passes the stream on and settles with what it has used.
local function pass_on(permit, api)
  local content_type = "text/event-stream"
  local meter = made("tokenweir_response_meter", C.tokenweir_response_meter_free, C.tokenweir_response_meter_new, api,
    content_type, #content_type)
  local filter = made("tokenweir_usage_chunk_filter", C.tokenweir_usage_chunk_filter_free,
    C.tokenweir_usage_chunk_filter_new)
  local output, spent, written = ffi.new("uint64_t[1]"), ffi.new("uint32_t[1]"), ffi.new("size_t[1]")
  local room = CHUNK + MOST_HELD
  local out = ffi.new("char[?]", room)
  for at = 1, #stream, CHUNK do
    local chunk = stream:sub(at, at + CHUNK - 1)
    done(C.tokenweir_response_meter_feed, meter, chunk, #chunk, output)
    done(C.tokenweir_limiter_observe, limiter, permit, 0, output[0], nil, spent)
    -- The client did not ask for the usage. A host may cut the stream where `spent` says that nothing is left.
    done(C.tokenweir_usage_chunk_filter_feed, filter, chunk, #chunk, out, room, written)
    io.write(ffi.string(out, written[0]))
  end
  done(C.tokenweir_usage_chunk_filter_finish, filter, out, room, written)
  io.write(ffi.string(out, written[0]))
  local measured, settlement = struct("tokenweir_measured"), struct("tokenweir_settlement")
  done(C.tokenweir_response_meter_measured, meter, measured)
  done(C.tokenweir_limiter_settle, limiter, permit, measured.usage, nil, settlement)
  print(string.format("settled %d input and %d output tokens, estimated: %d", tonumber(settlement.input),
    tonumber(settlement.output), measured.estimated))
end

local permit, api = admit(streamed)
local place = ffi.new("tokenweir_text *[1]")
done(C.tokenweir_wire_ask_usage, api, streamed, #streamed, nil, place)
-- NULL: the client asked for it, and its own body goes on.
local sent = ffi.gc(place[0], C.tokenweir_text_free)
print("sent: " .. (sent ~= nil and ffi.string(C.tokenweir_text_chars(sent)) or streamed))
pass_on(permit, api)

-- While one call runs there is no room for another of its kind.
permit = admit(bounded)
admit(bounded)
done(C.tokenweir_limiter_cancel, limiter, permit, nil, nil)
