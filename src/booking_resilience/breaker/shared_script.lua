-- What Redis knows of one fleet of breakers, read and changed in one step and by the clock of Redis. In front of it
-- come MOVES, the state machine's table, and KEPT, LATE and LAPSE, in milliseconds; so are all times here.
--
-- KEYS: the fleet's facts (a hash), a key that never exists
-- ARGV: what to do, a token never used before, how long ago that is which it is about, and two words on it; the machine,
--       the channel to announce changes on, and five of the process's settings

local op, fresh, age, subject, detail = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local machine, channel, cooldown, max_cooldown = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local trial_calls, min_reporters, length = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])

-- A write that changes nothing: a Redis that refuses writes (a replica, a full one) must not look healthy to readers.
redis.call('ZADD', KEYS[2], 'XX', 0, '')

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local fleet, stored = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do fleet[stored[i]] = stored[i + 1] end
local state, told, answer = fleet.state or 'closed', false, ''

local function whole(value) return string.format('%.0f', value) end
local function number(field) return tonumber(fleet[field]) or 0 end
local function set(field, value)
  if type(value) == 'number' then value = whole(value) end
  fleet[field] = value
  redis.call('HSET', KEYS[1], field, value)
end
local function unset(field)
  fleet[field] = nil
  redis.call('HDEL', KEYS[1], field)
end
local function each_report(act)  -- with the field of each machine's, which `act` may change or remove
  for field in pairs(fleet) do
    if string.sub(field, 1, 7) == 'report:' then act(field) end
  end
end
local function free()  -- nobody has the lease any more
  for _, field in ipairs({'lease', 'until', 'length', 'begun'}) do unset(field) end
  told = true
end
local function make(move)
  local new = MOVES[state .. ' ' .. move]
  if not new then return false end
  state = new
  set('state', new)
  set('since', now)
  told = true
  return true
end
local function turn(move)  -- something that every process has to follow
  set('turn', fresh)
  set('turned', now)
  set('move', move)
  set('successes', 0)
  free()
end
local function open(move, seconds)
  if not make(move) then return end
  turn(move)
  set('opened', now)
  set('cooldown', seconds)
end
local function open_anew(move)  -- by the settings of whoever completes the report
  open(move, cooldown)
  set('max_cooldown', max_cooldown)
  set('trial_calls', trial_calls)
end
local function relapse()
  local longer, most = number('cooldown'), number('max_cooldown')
  if most > 0 then longer = math.min(longer * 2, most) end
  open('RELAPSE', longer)
end
local function left() return math.max(number('opened') + number('cooldown') - now, 0) end  -- of the cooldown
local function reports(since)
  local count = 0
  each_report(function(field) if number(field) >= since then count = count + 1 end end)
  return count
end
local function close(move)
  if not make(move) then return end
  turn(move)
  each_report(unset)
end

local set_back = false  -- the clock: what lies in the future then happened just now
local function bound(field)
  if number(field) > now then
    set(field, now)
    set_back = true
  end
end
for _, field in ipairs({'since', 'turned', 'opened', 'commanded'}) do bound(field) end
each_report(bound)
if fleet.lease and number('until') > now + number('length') then set('until', now + number('length')) end

if state == 'half_open' and fleet.lease and number('until') <= now and subject ~= fleet.lease then
  if fleet.begun then relapse() else free() end  -- lost with its holder; or not begun in time
end

if op == 'report' then
  local at = now - age
  if state ~= 'closed' or set_back or at >= number('turned') then
    local keep = now - math.max(3600000, 2 * cooldown)
    each_report(function(field) if number(field) < keep then unset(field) end end)
    set('report:' .. machine, at)
    told = true
    local since = math.min(now - cooldown, at)  -- its own report counts, however short the cooldown is
    if state == 'closed' and reports(since) >= min_reporters then
      open_anew('TRIP')
    elseif state == 'open' and left() == 0 and reports(math.max(since, number('turned') + 1)) >= min_reporters then
      make('TRY')  -- an old OPEN that nobody tried to end: those who had left it found the backend sick again
      open_anew('RELAPSE')
    end
  end
elseif op == 'ask' then
  if state == 'open' and left() == 0 then make('TRY') end
  if state == 'half_open' and not fleet.lease then
    set('lease', fresh)
    set('length', LAPSE)
    set('until', now + LAPSE)
    answer = 'yours'
  end
elseif op == 'begin' and subject == fleet.lease then
  set('begun', 1)
  set('length', length)
  set('until', now + length)
elseif op == 'done' and subject == fleet.lease then
  if detail == 'success' then set('successes', number('successes') + 1) end
  if detail == 'failure' then
    relapse()
  elseif number('successes') >= number('trial_calls') then
    close('RECOVER')
  else
    free()
  end
elseif op == 'recover' then
  -- A trial succeeded while this Redis could not be asked for the lease; or what is here is of an older dump or of a
  -- replica that was behind, and whoever asks knows of a later turn that closed the fleet.
  local is_old = number('turned') < (tonumber(detail) or 0)
  local is_over = now - age >= number('opened') + number('cooldown')
  if state == 'isolated' and is_old then
    close('RESET')
  elseif (state == 'open' or state == 'half_open') and (is_old or is_over and not fleet.begun) then
    if state == 'open' then make('TRY') end
    close('RECOVER')
  end
elseif op == 'isolate' or op == 'reset' then
  local since = number('commanded')
  if op == 'reset' then since = math.max(since, number('turned')) end
  if age <= LATE or now - age >= since then
    if op == 'reset' then
      close('RESET')
    else
      make('ISOLATE')
      turn('ISOLATE')
    end
    set('commanded', now - age)
    set('reason', subject)
    answer = 'done'
  end
end

if next(fleet) then
  local keep = KEPT + number('cooldown') + number('length')
  if redis.call('PTTL', KEYS[1]) < keep / 2 then redis.call('PEXPIRE', KEYS[1], whole(keep)) end
end
if told then redis.pcall('PUBLISH', channel, fresh) end  -- or for want of a right it isn't announced
local wait = left()
if fleet.lease then wait = math.max(number('until') - now, 0) end
return cjson.encode({
  state = state, turn = fleet.turn or '', move = fleet.move or '', left = left() / 1000,
  cooldown = number('cooldown') / 1000, trials_left = number('trial_calls') - number('successes'),
  since = number('since') / 1000, turned = number('turned') / 1000, age = (now - number('turned')) / 1000,
  reporters = reports(now - cooldown), lease = fleet.lease or '', answer = answer, reason = fleet.reason or '',
  wait = wait / 1000
})
