-- Asks Fluxgate whether a request may pass, for haproxy.cfg: `http-request lua.fluxgate REQUIREMENT`.
--
-- The nodes are behind a frontend of HAProxy's own, which chooses, checks and retries them.
local URL = "http://127.0.0.1:8149/v1/authorize/"
local TIMEOUT_MS = 2000
-- Headers of the client's request that the nodes need.
local ASK = { "authorization", "x-api-key", "x-request-id", "traceparent", "tracestate" }
-- Headers for the client.
local SHOWN = {
  ["x-ratelimit-limit"] = "txn.fluxgate_limit",
  ["x-ratelimit-remaining"] = "txn.fluxgate_remaining",
  ["x-ratelimit-reset"] = "txn.fluxgate_reset",
}
local DENIED = { "content-type", "retry-after", "www-authenticate" }
-- Headers for the application.
local KNOWN = { "x-auth-key-id", "x-auth-key-name", "x-auth-owner", "x-auth-scope", "authorization" }
local DOWN = '{"error":"unavailable","message":"Authorization is unavailable"}'

-- All values of a header, in order: the nodes reject two different credentials.
local function values(headers, name)
  local all = {}
  for at = 0, #headers[name] do
    all[#all + 1] = headers[name][at]
  end
  return all
end

local function deny(txn, answer)
  local reply = txn:reply()
  local status = answer and answer.status
  if status == 401 or status == 403 or status == 429 or status == 503 then
    reply:set_status(status)
    for name in pairs(SHOWN) do
      if answer.headers[name] then reply:add_header(name, answer.headers[name][0]) end
    end
    for _, name in ipairs(DENIED) do
      if answer.headers[name] then reply:add_header(name, answer.headers[name][0]) end
    end
    reply:set_body(answer.body)
  end
  -- No node answers, or the answer is not a node's: deny.
  if not status or not answer.headers["content-type"]
    or answer.headers["content-type"][0] ~= "application/json" then
    reply = txn:reply()
    reply:set_status(503)
    reply:add_header("content-type", "application/json")
    reply:add_header("retry-after", "1")
    reply:set_body(DOWN)
  end
  txn:done(reply)
end

core.register_action("fluxgate", { "http-req" }, function(txn, requirement)
  local came, headers = txn.http:req_get_headers(), {}
  for _, name in ipairs(ASK) do
    if came[name] then headers[name] = values(came, name) end
  end
  headers["x-forwarded-method"] = { txn.f:method() }
  headers["x-forwarded-for"] = { txn.f:src() }
  -- headers["x-gateway-token"] = { "…" }
  local client = core.httpclient()
  local answer = client:get { url = URL .. requirement, headers = headers, timeout = TIMEOUT_MS }
  if not answer or answer.status ~= 200 then
    return deny(txn, answer)
  end
  -- The key is removed; an Authorization that a node returns is the application's own, beside an
  -- X-API-Key.
  txn.http:req_del_header("authorization")
  for _, name in ipairs(KNOWN) do
    if answer.headers[name] then txn.http:req_set_header(name, answer.headers[name][0]) end
  end
  for name, variable in pairs(SHOWN) do
    if answer.headers[name] then txn:set_var(variable, answer.headers[name][0]) end
  end
end, 1)
