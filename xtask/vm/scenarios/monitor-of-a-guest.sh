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
lguest --monitor /tmp/monitor --send status && fail 'a monitor answers that is not there'
# The socket that is left is taken over.
spin --monitor /tmp/monitor
[ "$(ask status)" = '{"status":"running"}' ] || fail 'the next guest does not run'
ask stop
wait $launcher
unload
