-- The same as proxy.c in LuaJIT, by FFI: luajit proxy.lua policy.toml
local ffi = require("ffi")
package.path = arg[0]:match("^(.-)[^/]*$") .. "?.lua;" .. package.path
local tokenweir = require("tokenweir")
local C, done, wrong, place, owned, struct =
  tokenweir.C, tokenweir.done, tokenweir.wrong, tokenweir.place, tokenweir.owned, tokenweir.struct

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
local made = place("tokenweir_policy")
done(C.tokenweir_policy_from_toml(source, #source, made, wrong))
local policy = owned(made, C.tokenweir_policy_free)
-- A clock that stands still makes the output below the same every time; without it the system's is used.
made = place("tokenweir_clock")
done(C.tokenweir_clock_new_manual(nil, made, wrong))
local clock = owned(made, C.tokenweir_clock_free)
local options = struct("tokenweir_options", { clock = clock })
made = place("tokenweir_limiter")
done(C.tokenweir_limiter_new(policy, options, made, wrong))
local limiter = owned(made, C.tokenweir_limiter_free)

local function show(answer)
  local view = struct("tokenweir_answer_view")
  done(C.tokenweir_answer_read(answer, view, wrong))
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
  done(C.tokenweir_wire_request_read(0, path, #path, body, #body, asked, wrong))
  local project = "search"
  local request = struct("tokenweir_request", {
    project = project, project_length = #project, deployment = asked.model, deployment_length = asked.model_length,
  })
  local rule, estimate = struct("tokenweir_output_rule", { tokens = 400 }), struct("tokenweir_estimate")
  done(C.tokenweir_wire_estimate(asked, rule, limiter, request, estimate, wrong))
  local decision, denial = struct("tokenweir_decision"), place("tokenweir_denial")
  done(C.tokenweir_limiter_admit(limiter, request, estimate, nil, decision, denial, wrong))
  print(string.format("%s: %d input and %d output tokens, %s", ffi.string(asked.model), tonumber(estimate.input),
    tonumber(estimate.output), decision.admitted == 1 and "admitted" or "refused"))
  local answer = place("tokenweir_answer")
  if decision.admitted == 1 then
    done(C.tokenweir_answer_admitted(limiter, decision.permit, OPENAI, 0, nil, answer, wrong))
  else
    denial = owned(denial, C.tokenweir_denial_free)
    done(C.tokenweir_answer_refused(limiter, denial, OPENAI, 1, nil, answer, wrong))
  end
  show(owned(answer, C.tokenweir_answer_free))
  return decision.permit, asked.api
end

-- Passes the stream on and settles with what it has used.
local function pass_on(permit, api)
  local content_type = "text/event-stream"
  local meter, filter = place("tokenweir_response_meter"), place("tokenweir_usage_chunk_filter")
  done(C.tokenweir_response_meter_new(api, content_type, #content_type, meter, wrong))
  meter = owned(meter, C.tokenweir_response_meter_free)
  done(C.tokenweir_usage_chunk_filter_new(filter, wrong))
  filter = owned(filter, C.tokenweir_usage_chunk_filter_free)
  local output, spent, written = ffi.new("uint64_t[1]"), ffi.new("uint32_t[1]"), ffi.new("size_t[1]")
  local room = CHUNK + MOST_HELD
  local out = ffi.new("char[?]", room)
  for at = 1, #stream, CHUNK do
    local chunk = stream:sub(at, at + CHUNK - 1)
    done(C.tokenweir_response_meter_feed(meter, chunk, #chunk, output, wrong))
    done(C.tokenweir_limiter_observe(limiter, permit, 0, output[0], nil, spent, wrong))
    -- The client did not ask for the usage. A host may cut the stream where `spent` says that nothing is left.
    done(C.tokenweir_usage_chunk_filter_feed(filter, chunk, #chunk, out, room, written, wrong))
    io.write(ffi.string(out, written[0]))
  end
  done(C.tokenweir_usage_chunk_filter_finish(filter, out, room, written, wrong))
  io.write(ffi.string(out, written[0]))
  local measured, settlement = struct("tokenweir_measured"), struct("tokenweir_settlement")
  done(C.tokenweir_response_meter_measured(meter, measured, wrong))
  done(C.tokenweir_limiter_settle(limiter, permit, measured.usage, nil, settlement, wrong))
  print(string.format("settled %d input and %d output tokens, estimated: %d", tonumber(settlement.input),
    tonumber(settlement.output), measured.estimated))
end

local permit, api = admit(streamed)
made = place("tokenweir_text")
done(C.tokenweir_wire_ask_usage(api, streamed, #streamed, nil, made, wrong))
-- None: the client asked for it, and its own body goes on.
local sent = owned(made, C.tokenweir_text_free)
print("sent: " .. (sent and ffi.string(C.tokenweir_text_chars(sent)) or streamed))
pass_on(permit, api)

-- While one call runs there is no room for another of its kind.
permit = admit(bounded)
admit(bounded)
done(C.tokenweir_limiter_cancel(limiter, permit, nil, nil, wrong))
