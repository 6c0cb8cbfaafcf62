-- A sample model: 9 input and 3 output tokens for everyone. The model "fails" does; the model "talks" streams on for two seconds.
local model = {}

local events = {
  '{"id":"sample","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"At "}}]}',
  '{"id":"sample","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"high "}}]}',
  '{"id":"sample","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"noon"},"finish_reason":"stop"}]}',
}
local usage = '"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}'

function model.answer()
  ngx.req.read_body()
  local body = ngx.req.get_body_data() or ""
  if body:find('"fails"', 1, true) then
    ngx.status = 500
    ngx.header.content_type = "application/json"
    return ngx.print('{"error":{"message":"the model does not answer","type":"server_error"}}')
  end
  if not body:find('"stream": *true') then
    ngx.header.content_type = "application/json"
    return ngx.print('{"id":"sample","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",'
      .. '"content":"At high noon"},"finish_reason":"stop"}],' .. usage .. "}")
  end
  ngx.header.content_type = "text/event-stream"
  for _ = 1, body:find('"talks"', 1, true) and 100 or 0 do
    ngx.print("data: " .. events[2] .. "\n\n")
    ngx.flush(true)
    ngx.sleep(0.02)
  end
  for _, event in ipairs(events) do
    ngx.print("data: " .. event .. "\n\n")
    ngx.flush(true)
  end
  if body:find('"include_usage": *true') then
    ngx.print('data: {"id":"sample","object":"chat.completion.chunk","choices":[],' .. usage .. "}\n\n")
  end
  ngx.print("data: [DONE]\n\n")
end

return model
