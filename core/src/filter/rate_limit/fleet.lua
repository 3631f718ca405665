#!lua name=ringway_limits_1

-- Budgets that gateways share. Each function is given one key, lends of it what is asked for or nothing, and answers
--   { lent or -1 | epoch of the loan | us until there may be enough | left | us until it is full | us for which a loan is good }
-- A gateway that dies gives nothing back: what it had is taken for used when its loan's time is over.

-- Microseconds since 2026: small enough that doubles tell hundredths of them for a century.
local BEGIN_S = 1767225600

local function now_us()
  local time = redis.call('TIME')
  return (time[1] - BEGIN_S) * 1000000 + time[2]
end

local function numbers(args)
  local all = {}
  for at, text in ipairs(args) do all[at] = tonumber(text) end
  return all
end

local BUCKET = '<ddddddd'
-- A core uses what it has of a loan up to this much later than its gateway says so: the 4 ms of a core's own lease.
local LATE_US = 4000

-- A token bucket, which is full at a moment; what is lent and not reported keeps it from filling.
-- us per token | burst | us of a lease | gateways | least | ahead | debt | lent at most, then of each loan that is over:
-- epoch | lent | unused
local function bucket(keys, args)
  local a = numbers(args)
  local token, burst, span, gateways, least, ahead, debt, lent_max = unpack(a, 1, 8)
  local now = now_us()
  local epoch = math.floor(now / span)
  local full, at, older, newer = now, epoch, 0, 0
  local raw = redis.call('GET', keys[1])
  if raw and #raw == 56 then
    local was_token, was_burst, was_span
    full, at, older, newer, was_token, was_burst, was_span = struct.unpack(BUCKET, raw)
    if was_span ~= span then -- epochs mean something else: all loans count as used now
      full = math.max(full, now + (older + newer) * was_token)
      at, older, newer = epoch, 0, 0
    end
    if was_token ~= token or was_burst ~= burst then -- the level stays
      local level = math.max(0, was_burst - math.max(0, full - now) / was_token)
      full = now + math.max(0, burst - level) * token
    end
  end
  if epoch > at then -- loans of an epoch are over at the end of the next one
    if older > 0 then full = math.max(full, (at + 1) * span + (older + newer) * token) end
    if epoch > at + 1 then
      if newer > 0 then full = math.max(full, (at + 2) * span + newer * token) end
      older, newer = 0, 0
    else
      older, newer = newer, 0
    end
  end
  at = epoch
  for i = 9, #a, 3 do
    local lent, unused, out = a[i + 1], a[i + 2], older + newer
    local known = true
    if a[i] == at then
      newer = math.max(0, newer - lent)
    elseif a[i] == at - 1 then
      older = math.max(0, older - lent)
    else
      known = false
    end
    if known then
      local late = unused < lent and LATE_US or 0
      full = math.max(full, now + late + out * token) - math.min(unused, lent) * token
    end
  end
  local top, out = now + burst * token, older + newer
  full = math.min(math.max(full, now + out * token) + debt * token, top)
  local lent, wait = -1, 0
  local room = (top - full) / token + 0.001
  if room < least then
    wait = (least - room) * token
  else
    local more = math.floor(math.min(ahead, (room - least) / (2 * gateways), lent_max - out - least))
    lent = least + math.max(0, more)
    newer = newer + lent
    full = full + lent * token
  end
  if lent > 0 or debt > 0 or #a > 8 then
    local ttl = math.ceil((full - now + 3 * span) / 1000) + 1000
    redis.call('SET', keys[1], struct.pack(BUCKET, full, at, older, newer, token, burst, span), 'PX', ttl)
  end
  local left = math.max(0, math.floor((top - full) / token + 0.001))
  return { lent, at, math.ceil(wait), left, math.ceil(full - now), span }
end

local DAY_US = 86400 * 1000000

-- The month's number, its first day and that of the next, for a day since 1970 (Hinnant 2013, civil_from_days).
local function month(day)
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local march = math.floor((5 * of_year + 2) / 153)
  local of_month = of_year - math.floor((153 * march + 2) / 5)
  local first = day - of_month
  local length = math.floor((153 * (march + 1) + 2) / 5) - math.floor((153 * march + 2) / 5)
  if march == 11 then -- February, the last of years that begin in March
    local next_year = year + 1
    local leap = (next_year % 4 == 0 and next_year % 100 ~= 0) or next_year % 400 == 0
    length = leap and 29 or 28
  end
  return (era * 400 + year) * 12 + march, first, first + length
end

-- Its number, and how much of it is gone and left, in us.
local function period_at(kind, length, now)
  if kind == 2 or kind == 3 then
    local unix = now + BEGIN_S * 1000000
    local day = math.floor(unix / DAY_US)
    local number, first, following = day, day, day + 1
    if kind == 3 then number, first, following = month(day) end
    return number, unix - first * DAY_US, following * DAY_US - unix
  end
  local number = math.floor(now / length)
  return number, now - number * length, (number + 1) * length - now
end

local PERIOD = '<ddd'

-- Counts in windows or days: kind (0 fixed, 1 sliding, 2 day, 3 month) | us of a window | limit | gateways | least |
-- ahead | debt | us of a lease, then as above.
local function period(keys, args)
  local a = numbers(args)
  local kind, length, limit, gateways, least, ahead, debt, span = unpack(a, 1, 8)
  local number, gone, rest = period_at(kind, length, now_us())
  local count, before = 0, 0
  local raw = redis.call('GET', keys[1])
  if raw and #raw == 24 then
    local known, known_count, known_before = struct.unpack(PERIOD, raw)
    if known == number then
      count, before = known_count, known_before
    elseif known == number - 1 then
      before = known_count
    elseif known > number then -- a clock that is behind waits
      number, gone, rest, count, before = known, 0, math.max(rest, length), known_count, known_before
    end
  end
  for i = 9, #a, 3 do
    if a[i] == number then
      count = math.max(0, count - a[i + 2])
    elseif a[i] == number - 1 then
      before = math.max(0, before - a[i + 2])
    end
  end
  count = count + debt
  local faded = kind == 1 and math.ceil(before * rest / length) or 0
  local room = limit - count - faded
  local lent, wait = -1, 0
  if room < least then
    wait = rest
    if kind == 1 then
      local free = limit - count - least
      if free >= 0 then
        wait = math.max(1, length - length * free / math.max(1, before) - gone)
      else
        wait = rest + math.max(0, length - length * math.max(0, limit - least) / count)
      end
    end
  else
    lent = least + math.max(0, math.floor(math.min(ahead, (room - least) / (2 * gateways))))
    count = count + lent
    room = room - lent
  end
  if lent > 0 or debt > 0 or #a > 8 then
    local ttl = math.ceil((rest + math.max(length, DAY_US * (kind > 1 and 1 or 0))) / 1000) + 1000
    redis.call('SET', keys[1], struct.pack(PERIOD, number, count, before), 'PX', ttl)
  end
  return { lent, number, math.ceil(wait), math.max(0, room), math.ceil(rest), math.min(span, rest) }
end

-- Notes that a gateway lives, and says how many do: the name of the gateway | ms after which one is taken for dead.
local function beat(keys, args)
  local now = now_us() / 1000
  redis.call('ZADD', keys[1], now, args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', now - args[2])
  redis.call('PEXPIRE', keys[1], args[2] * 2)
  return redis.call('ZCARD', keys[1])
end

redis.register_function('ringway_bucket_1', bucket)
redis.register_function('ringway_period_1', period)
redis.register_function('ringway_beat_1', beat)
