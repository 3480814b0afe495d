-- What Redis knows of one fleet of breakers, read and changed in one step and by the clock of Redis. In front of it
-- come MOVES, the state machine's table, and KEPT and LATE, in milliseconds; so are all times here.
--
-- KEYS: the fleet's facts (a hash), the reports (a sorted set: process, when)
-- ARGV: what to do, the process, who holds a lease, a token never used before, the channel to announce changes on,
--       five of the process's settings, and what the command is about

local op, process, me, fresh, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local cooldown, max_cooldown = tonumber(ARGV[6]), tonumber(ARGV[7])
local trial_calls, min_reporters, length = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local subject, detail = ARGV[11], ARGV[12]

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local fleet, stored = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do fleet[stored[i]] = stored[i + 1] end
local state, told, turns, answer = fleet.state or 'closed', false, 0, ''

local function whole(value) return string.format('%.0f', value) end
local function number(field) return tonumber(fleet[field]) or 0 end
local function set(field, value)
  if type(value) == 'number' then value = whole(value) end
  fleet[field] = value
  redis.call('HSET', KEYS[1], field, value)
end
local function free()  -- nobody has the lease any more
  for _, field in ipairs({'holder', 'lease', 'until', 'length', 'begun', 'granted', 'rival'}) do
    fleet[field] = nil
    redis.call('HDEL', KEYS[1], field)
  end
  told = true
end
local function turn(move)  -- something that every process has to follow
  turns = turns + 1
  set('turn', fresh .. turns)
  set('turned', now)
  set('move', move)
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
local function open(move, seconds)
  if not make(move) then return end
  turn(move)
  free()
  set('successes', 0)
  set('opened', now)
  set('cooldown', seconds)
end
local function close(move)
  if not make(move) then return end
  turn(move)
  free()
  set('successes', 0)
  redis.call('DEL', KEYS[2])
end
local function relapse()
  local longer, most = number('cooldown'), number('max_cooldown')
  if most > 0 then longer = math.min(longer * 2, most) end
  open('RELAPSE', longer)
end
local function left()  -- of the cooldown; none for a clock that was set back by more than all of it
  local rest = number('opened') + number('cooldown') - now
  if rest < 0 or rest > number('cooldown') then return 0 end
  return rest
end
local function reports(since)
  return redis.call('ZCOUNT', KEYS[2], whole(since), whole(now + cooldown))
end

if state == 'half_open' and fleet.lease and not (op == 'done' and subject == fleet.lease) then
  local rest = number('until') - now
  if rest <= 0 or rest > number('length') then relapse() end  -- lost with its holder
end

if op == 'report' then
  local at = now - tonumber(subject)
  if state ~= 'closed' or at >= number('turned') then
    local keep = math.max(3600000, 2 * cooldown)
    redis.call('ZADD', KEYS[2], whole(at), process)
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now - keep))
    redis.call('PEXPIRE', KEYS[2], whole(math.max(keep, redis.call('PTTL', KEYS[2]))))
    told = true
    local since = math.min(now - cooldown, at)  -- its own report counts, however short the cooldown is
    if state == 'closed' and reports(since) >= min_reporters then
      open('TRIP', cooldown)
      set('max_cooldown', max_cooldown)
      set('trial_calls', trial_calls)
    elseif state == 'open' and left() == 0 and reports(math.max(since, number('turned') + 1)) >= min_reporters
    then  -- an old OPEN that nobody tried to end: those who had left it found the backend sick again
      make('TRY')
      open('RELAPSE', cooldown)
      set('max_cooldown', max_cooldown)
      set('trial_calls', trial_calls)
    end
  end
elseif op == 'ask' then
  if state == 'open' and left() == 0 and make('TRY') then set('patience', 250) end
  local mine = fleet.holder == me and not fleet.begun
  if state ~= 'half_open' then
    answer = 'no'
  elseif mine and fleet.rival then
    answer = 'yield'
  elseif mine or not fleet.lease then
    if not mine then
      set('holder', me)
      set('lease', fresh)
      set('granted', now)
    end
    set('length', length)
    set('until', now + length)
    answer = 'yours'
  elseif fleet.begun then
    answer = 'busy'
  else
    local held = now - number('granted')
    if held < 0 or held >= number('patience') then set('rival', me) end
    answer = 'wait'
  end
elseif op == 'begin' then
  if subject == fleet.lease then
    set('begun', 1)
    set('length', length)
    set('until', now + length)
  end
elseif op == 'yield' then
  if subject == fleet.lease then
    -- Whoever has it next may keep it twice as long: so two who seldom call do not take it from each other for ever.
    if fleet.rival then set('patience', number('patience') * 2) end
    free()
  end
elseif op == 'done' then
  if subject == fleet.lease then
    if detail == 'failure' then
      relapse()
    else
      set('successes', number('successes') + 1)
      if number('successes') >= number('trial_calls') then close('RECOVER') else free() end
    end
  end
elseif op == 'recover' then  -- a trial that succeeded while this Redis could not be asked for the lease
  local at = now - tonumber(subject)
  if (state == 'open' or state == 'half_open') and not fleet.begun and at >= number('opened') + number('cooldown') then
    if state == 'open' then make('TRY') end
    close('RECOVER')
  end
elseif op == 'isolate' then
  local age = tonumber(detail)
  if age <= LATE or now - age >= number('commanded') then
    if make('ISOLATE') then free() end
    turn('ISOLATE')
    set('commanded', now - age)
    set('reason', subject)
  end
elseif op == 'reset' then
  local age = tonumber(detail)
  if age <= LATE or now - age >= math.max(number('commanded'), number('turned')) then
    close('RESET')
    set('commanded', now - age)
    set('reason', subject)
  end
end

if fleet.state then
  local keep = KEPT + number('cooldown') + number('length')
  if redis.call('PTTL', KEYS[1]) < keep / 2 then redis.call('PEXPIRE', KEYS[1], whole(keep)) end
end
if told then redis.call('PUBLISH', channel, fresh) end
return {
  state, fleet.turn or '', fleet.move or '', whole(left()), whole(number('cooldown')),
  whole(number('trial_calls') - number('successes')), fleet.since or '', whole(now - number('turned')),
  whole(reports(now - cooldown)), fleet.lease or '', answer, fleet.reason or ''
}
