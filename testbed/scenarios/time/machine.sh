# What runs in the virtual machine of scenario time-faults: agency B's appliance, which boots. $1 says which time: first, or again with $2, the number of records that the first one
# had, and $3, their digest. Each line that it prints is looked at by a step. Waits are by the time since boot, which nobody sets.
set -eu
up() { cut -d. -f1 /proc/uptime; }
# await SECONDS WHAT COMMAND... waits until the command succeeds.
await() {
  limit=$1 what=$2 began=$(up)
  shift 2
  until "$@" >/run/await 2>&1; do
    if [ $(($(up) - began)) -gt "$limit" ]; then
      echo "NOT within $limit s: $what"
      cat /run/await
      tail -n 20 /run/*.log
      exit 1
    fi
    sleep 0.3
  done
  echo "$what ($(($(up) - began)) s)"
}
shows() {
  pattern=$1
  shift
  "$@" 2>&1 | grep -E -e "$pattern"
}
state() { shows "^Clock +$1 since" shekara time status; }
client() { shows "$1" ip netns exec client shekara time check 10.64.3.1; }
lost() { shekara journal list --type time.state | grep -c 'the clock is not synchronised' || true; } # so often that is on record
more() { [ "$(lost)" -gt "$1" ]; }
# digest N is of the first N records, which are in files of the first day.
digest() { cat /var/lib/shekara/journal/*.jsonl | head -n "$1" | sha256sum | cut -d' ' -f1; }
set_right() {
  rm -f /run/chronyd.pid
  chronyd -q -t 60 -u root 'cmdport 0' 'bindcmdaddress /' 'pidfile /run/chronyd.pid' 'server 192.0.2.11 iburst' 'server 192.0.2.12 iburst' 'server 192.0.2.13 iburst' >/run/chronyd.log 2>&1
}

echo "it starts in $(date +%Y)"
mount -t ext4 /dev/vda /var/lib
mkdir -p /etc/shekara /run/chrony
echo agency-b >/etc/shekara/site
ip link set eth0 name ext0
ip address add 198.51.100.130/25 dev ext0
ip link set ext0 up
ip route add default via 198.51.100.129
ip netns add client
ip link add lan0 type veth peer name eth0 netns client
ip address add 10.64.3.1/24 dev lan0
ip link set lan0 up
ip -n client address add 10.64.3.5/24 dev eth0
ip -n client link set lo up
ip -n client link set eth0 up
shekarad time >/run/time.log 2>&1 &
shekarad >/run/shekarad.log 2>&1 &
await 90 "the daemon lives" shekara status --check live

if [ "$1" = first ]; then
  shekara apply --yes /etc/zones.yaml /etc/machine.yaml >/run/apply.log 2>&1 && shekara confirm >>/run/apply.log 2>&1 || cat /run/apply.log
  echo "key $(shekara peer export | grep -oE '[A-Za-z0-9+/]{43}=' | head -n 1)"
  await 180 "the clock is right" set_right
  await 180 "the clock is synchronised" state synchronised
  await 60 "a client would follow it" client 'would follow'
  await 90 "the tunnel passes" shows ' passing ' shekara tunnel list
  n=$(cat /var/lib/shekara/journal/*.jsonl | wc -l)
  # Acts are acknowledged when they are on the disk, and all records before them are.
  shekara hold 10m >/dev/null && shekara hold --end >/dev/null
  echo "recorded $n $(digest "$n")"
  exec sleep 1000
fi

await 60 "it knows that it is in the past" shows 'the clock is in the past, by [0-9]{5}h' shekara time status
await 60 "the sources were asked" shows '^192.0.2.13:123 .* [+][0-9]{5}h' shekara time status
await 1 "the clock is not synchronised" state unsynchronised
await 30 "a client is told so" client 'leap 3'
await 30 "that it is in the past is on record" shows 'the clock is in the past' shekara journal list --type time.warn
# 148 bytes are one request: with two the first had five seconds in which it could have been answered.
asked() { [ "$(wg show all transfer | awk '{ sent += $4 } END { print sent + 0 }')" -ge 296 ]; }
await 60 "the far end was asked twice for a handshake" asked
shows ' passing ' shekara tunnel list || echo "and refuses it"
echo "it is still $(date +%Y)"
chronyd -u root 'cmdport 0' 'bindcmdaddress /' 'pidfile /run/chronyd.pid' 'server 192.0.2.11 iburst' 'server 192.0.2.12 iburst' 'server 192.0.2.13 iburst' 'makestep 1 3'
later() { [ "$(date +%Y)" -gt 2020 ]; }
await 60 "chronyd has set the clock" later
await 90 "the clock is synchronised" state synchronised
await 90 "the tunnel passes" shows ' passing ' shekara tunnel list
await 30 "that the clock was set is on record" shows 'the clock was set from 2020-01-01' shekara journal list --type clock.step
kill "$(cat /run/chronyd.pid)"

for by in 3600 -3600; do
  before=$(lost)
  date -s "@$(($(date +%s) + by))" >/dev/null
  await 10 "set by $by s, it is not synchronised" state unsynchronised
  await 10 "set by $by s, a client is told so" client 'leap 3'
  await 30 "set by $by s, that is on record" more "$before"
  await 180 "after $by s it is right" set_right
  await 90 "after $by s it is synchronised" state synchronised
  await 60 "after $by s a client would follow it" client 'would follow'
done

shekara journal list --type time.state | cat # which has no width to be cut to
shekara journal key >/run/key
shekara journal verify /var/lib/shekara/journal --key /run/key | cat
# The day in 2020 is long over by the clock as it is now: its file may have been compressed.
shekara journal list --limit 10000 --checkpoints | awk 'NR > 1 && $1 != NR - 1 { print "record " (NR - 1) " is number " $1; bad = 1 } END { if (bad) exit 1; print (NR - 1) " records in order" }'
[ "$(digest "$2")" = "$3" ] && echo "those of before the power cut are as they were"
