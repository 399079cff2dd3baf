# A user who brings about lines of the log without end keeps no line of another user's out of it, also not by opening the
# device anew each time.
load
users_up; udev
dmesg -c >/dev/null
read -r begin rest </proc/uptime
as bob lguest --strategy bobs-first $GUEST && fail 'a strategy was taken that is not there'
as alice /guests/hostile-launcher log-flood || fail 'the host has not stood it'
as bob lguest --strategy bobs-second $GUEST && fail 'a strategy was taken that is not there'
# What was left out is reported with the first line after five seconds.
sleep 6
as alice lguest --strategy flood $GUEST && fail 'a strategy was taken that is not there'
read -r end rest </proc/uptime
dmesg >/tmp/log
seconds=$((${end%.*} - ${begin%.*} + 1))
lines=$(grep -c 'flood`' /tmp/log)
echo "$lines lines for 10000 strategies that are not there, in $seconds s"
[ $lines -ge 1 ] || fail 'the log says nothing of it'
[ $lines -le $((10 * (seconds / 5 + 1))) ] || fail 'a user can fill the log'
for mistake in bobs-first bobs-second; do
    grep -q $mistake /tmp/log || fail "the other user's mistake is lost: $mistake"
done
grep -q 'lg: user 1001: .* callbacks suppressed' /tmp/log || fail 'the log does not say that lines were left out, and whose'
unload
