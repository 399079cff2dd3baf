# ask COMMAND: the monitor's answer.
ask() {
    lguest --monitor /tmp/monitor --send "$1" || fail "the monitor does not $1"
}
# switched: how often the guest was switched to and from.
switched() {
    ask counters | sed -n 's/.*"world_switches":\([0-9]*\).*/\1/p'
}
# more THAN: whether that has become more.
more() {
    [ "$(switched)" -gt "$1" ]
}
load
spin --user 1234:5678 --monitor /tmp/monitor
[ "$(ask status)" = '{"status":"running"}' ] || fail 'the guest does not run'
before=$(switched)
[ "$before" -gt 0 ] || fail 'there are no counters of a guest that runs'
until_true 30 more "$before" || fail 'the guest has come to a stop'
[ "$(ask pause)" = '{"status":"paused"}' ] || fail 'the guest is not paused'
before=$(switched)
sleep 2
[ "$(switched)" = "$before" ] || fail 'the guest goes on while it is paused'
[ "$(ask status)" = '{"status":"paused"}' ] || fail 'the guest is not paused any more'
ask continue
until_true 30 more "$before" || fail 'the guest does not go on'
# Its shadow tables can be looked at, but not where they are in the host's memory.
ask directories | grep -q '{"directories":\[{"current":.*"directory":"0x' || fail 'there are no page directories'
ask tables >/tmp/tables
grep -q '"page":"0x[0-9a-f]*","rights":"r' /tmp/tables || fail "there are no entries: $(head -c 200 /tmp/tables)"
grep -q frame /tmp/tables && fail 'the tables tell about frames of the host'
[ "$(ask status)" = '{"status":"running"}' ] || fail 'the guest does not go on'
# A guest that is paused can be stopped.
ask pause
ask stop
wait $launcher; [ $? = 143 ] || fail 'the stopped guest ended with status' $?
[ ! -e /tmp/monitor ] || fail 'the socket of a guest that was stopped is left'
lguest --monitor /tmp/monitor --send status && fail 'a monitor answers that is not there'
# The socket goes with the launcher, whoever ends it: also when that has the rights of no user that could remove it.
ended() {
    [ ! -e /tmp/monitor ]
}
for user in 0:0 1234:5678; do
    for signal in TERM INT KILL; do
        spin --user $user --monitor /tmp/monitor
        [ "$(ask status)" = '{"status":"running"}' ] || fail 'the next guest does not run'
        kill -$signal $launcher
        wait $launcher
        # Of a launcher that was killed, a moment later.
        until_true 10 ended || fail "the socket of a guest that was ended by $signal is left"
    done
done
# Nobody takes the socket of a guest that runs, and no file is taken for one.
spin --monitor /tmp/monitor
lguest --monitor /tmp/monitor $GUEST spin 2>/tmp/error && fail 'a guest has taken the socket of another'
grep -q 'a program that runs answers there' /tmp/error || fail "the socket was refused for another reason: $(cat /tmp/error)"
[ "$(ask status)" = '{"status":"running"}' ] || fail 'the first guest has lost its socket'
ask stop
wait $launcher
echo mine >/tmp/monitor
lguest --monitor /tmp/monitor $GUEST spin 2>/tmp/error && fail 'a guest has taken a file for its socket'
[ "$(cat /tmp/monitor)" = mine ] || fail 'the file is gone'
rm /tmp/monitor
lguest --monitor /tmp/monitor $GUEST crash; [ $? = 121 ] || fail 'the crash came out as' $?
ended || fail 'the socket of a guest that ended by itself is left'
unload
