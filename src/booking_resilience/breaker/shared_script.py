"""What Redis knows of a fleet of breakers, and the one script that reads and changes it, in one step and by its clock.

Redis holds facts: who reported, how the fleet stands, who has the lease of the trial. Which move leads where is not
written down here a second time: the script is given the state machine's own table.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_resilience.breaker.machine import TRANSITIONS
from booking_resilience.events import BreakerState

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT = 7 * 86400  # seconds that a fleet's facts outlive the last process that asked for them
LATE = 2.0  # seconds after which something by hand may be overtaken by what happened since

_MOVES = "\n".join(
    f"MOVES['{old.value} {move.name}'] = '{new.value}'" for (old, move), new in sorted(TRANSITIONS.items(), key=str)
)

SCRIPT = (
    f"""
local MOVES = {{}}
{_MOVES}
local KEPT, LATE = {KEPT * 1000}, {int(LATE * 1000)}
"""
    + """
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
    if state == 'closed' and reports(now - cooldown) >= min_reporters then
      open('TRIP', cooldown)
      set('max_cooldown', max_cooldown)
      set('trial_calls', trial_calls)
    elseif state == 'open' and left() == 0 and reports(math.max(now - cooldown, number('turned') + 1)) >= min_reporters
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
"""
)

SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as Redis names it


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a process's settings counts for the fleet when that process completes a report; seconds."""

    cooldown: float
    max_cooldown: float | None
    trial_calls: int
    trial_timeout: float
    min_reporters: int

    def arguments(self) -> tuple[str, ...]:
        """Return them as the script takes them, in whole milliseconds; at least one where none is no value."""
        longest = 0 if self.max_cooldown is None else max(_milliseconds(self.max_cooldown), 1)
        length = max(_milliseconds(self.trial_timeout), 1)
        numbers = _milliseconds(self.cooldown), longest, self.trial_calls, self.min_reporters, length
        return tuple(str(number) for number in numbers)


@dataclass(frozen=True, slots=True)
class Fact:
    """How the fleet stood when Redis answered; durations in seconds.

    Attributes:
        state: The fleet's state.
        turn: Names the last transition that processes have to follow; empty if Redis knows of none.
        move: Which move that was, by its name in the table.
        left: Of the cooldown.
        cooldown: The whole of it.
        trials_left: Successes still needed to close.
        since: Since when it is in its state, in seconds since 1970 by Redis' clock; None if Redis knows of nothing.
        age: How long ago the turn was.
        reporters: Processes that reported within one cooldown.
        lease: The token of the lease, empty if nobody has it.
        answer: To who asked for the lease: yours, yield, busy, wait, no.
        reason: Of the last isolation or reset by hand.
    """

    state: BreakerState
    turn: str
    move: str
    left: float
    cooldown: float
    trials_left: int
    since: float | None
    age: float
    reporters: int
    lease: str
    answer: str
    reason: str

    @classmethod
    def parse(cls, reply: Sequence[bytes]) -> Fact:
        """Return what the script's reply says."""
        state, turn, move, left, cooldown, trials, since, age, reporters, lease, answer, reason = (
            item.decode("utf-8", "replace") for item in reply
        )
        return cls(
            state=BreakerState(state),
            turn=turn,
            move=move,
            left=int(left) / 1000,
            cooldown=int(cooldown) / 1000,
            trials_left=int(trials),
            since=int(since) / 1000 if since else None,
            age=int(age) / 1000,
            reporters=int(reporters),
            lease=lease,
            answer=answer,
            reason=reason,
        )


def age_argument(seconds: float) -> str:
    """Return an age as the script takes it: whole milliseconds, 0 or more."""
    return str(_milliseconds(max(seconds, 0.0)))


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000 - 1e-6)
