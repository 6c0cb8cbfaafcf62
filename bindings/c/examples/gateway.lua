-- The same as gateway.c in LuaJIT, by FFI: luajit gateway.lua policy.toml
local ffi = require("ffi")
package.path = arg[0]:match("^(.-)[^/]*$") .. "?.lua;" .. package.path
local tokenweir = require("tokenweir")
local C, done, wrong, place, owned, struct =
  tokenweir.C, tokenweir.done, tokenweir.wrong, tokenweir.place, tokenweir.owned, tokenweir.struct

local source = assert(io.open(arg[1], "rb")):read("*a")
local made = place("tokenweir_policy")
done(C.tokenweir_policy_from_toml(source, #source, made, wrong))
local policy = owned(made, C.tokenweir_policy_free)
made = place("tokenweir_clock")
done(C.tokenweir_clock_new_manual(nil, made, wrong))
local clock = owned(made, C.tokenweir_clock_free)
local options = struct("tokenweir_options", { clock = clock })
made = place("tokenweir_limiter")
done(C.tokenweir_limiter_new(policy, options, made, wrong))
local limiter = owned(made, C.tokenweir_limiter_free)

local function admit(project, input, output)
  local deployment = "gpt-4o"
  local request = struct("tokenweir_request", {
    project = project, project_length = #project, deployment = deployment, deployment_length = #deployment,
  })
  local estimate = struct("tokenweir_estimate", { input = input, output = output })
  local decision = struct("tokenweir_decision")
  done(C.tokenweir_limiter_admit(limiter, request, estimate, nil, decision, nil, wrong))
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
  done(C.tokenweir_limiter_observe(limiter, permit, 0, 95, nil, spent, wrong))
end
print("search: 380 tokens streamed, spent: " .. spent[0])
local usage = struct("tokenweir_usage", { input = 912, cached_input = 512, output = 380 })
local settlement = struct("tokenweir_settlement")
done(C.tokenweir_limiter_settle(limiter, permit, usage, nil, settlement, wrong))
print(string.format("search: settled %d input, %d of them cached, %d output", tonumber(settlement.input),
  tonumber(settlement.cached_input), tonumber(settlement.output)))

permit = admit("chat", 1200, 400)
admit("chat", 1000, 500)
made = place("tokenweir_text")
done(C.tokenweir_limiter_permit(limiter, permit, nil, made, wrong))
local text = owned(made, C.tokenweir_text_free)
print("chat: " .. ffi.string(C.tokenweir_text_chars(text)):match('"remaining".*'))
done(C.tokenweir_limiter_cancel(limiter, permit, nil, nil, wrong))
admit("chat", 1000, 500)
