# packet TEXT: as GDB sends it.
packet() {
    sum=$(printf %s "$1" | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) s += $i } END { printf "%02x", s % 256 }')
    printf '$%s#%s' "$1" "$sum"
}
# answered NUMBER: whether so many packets have been answered.
answered() {
    [ "$(tr -cd '$' </tmp/answers | wc -c)" -ge "$1" ]
}
# gdb PACKET...: what the launcher answers to these packets, a line each, in /tmp/replies. `stop` waits for the answers to all so far,
# that of the guest's stop among them; `wait` lets the guest run for a while, `interrupt` is ctrl-C.
gdb() {
    : >/tmp/answers
    sent=0
    for packet in "$@"; do
        case $packet in
        stop) until_true 60 answered $sent ;;
        wait) sleep 3 ;;
        interrupt) printf '\003' ;;
        *) packet "$packet"; sent=$((sent + 1)) ;;
        esac
    done | nc 127.0.0.1 1234 >/tmp/answers
    tr '#' '\n' </tmp/answers | sed -n 's/^.*\$//p' >/tmp/replies
    cat /tmp/replies
}
# reply NUMBER: one of them.
reply() {
    sed -n "$1p" /tmp/replies
}
# eip REGISTERS: the ninth register, most significant byte first.
eip() {
    echo "$1" | cut -c65-72 | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/'
}
load
ifconfig lo 127.0.0.1 up
lguest --user 1234:5678 --gdb 1234 $GUEST spin >/tmp/spin 2>&1 &
launcher=$!
until_true 30 grep -q ':04D2 ' /proc/net/tcp || fail 'nobody waits for a debugger'
sleep 2
grep -q 'mini: spinning' /tmp/spin && fail 'the guest does not wait for a debugger'
# It begins where its kernel's file says, in ring 1, and is stepped there.
gdb g s stop g D
first=$(eip "$(reply 1)")
[ "$(reply 1 | cut -c81-82)" = 61 ] || fail "the guest begins with the code segment $(reply 1 | cut -c81-88)"
case $(reply 2) in [ST]05*) ;; *) fail "a step ends with $(reply 2)" ;; esac
[ "$(eip "$(reply 3)")" != "$first" ] || fail "a step has left the guest at $first"
# Without a debugger it runs.
until_true 60 grep -qs 'mini: spinning' /tmp/spin || fail "the guest does not run: $(cat /tmp/spin)"
# Wherever it is stopped, it comes by again, since it goes round.
gdb g D
where=$(eip "$(reply 1)")
gdb "m$where,1" "Z0,$where,1" "m$where,1" c stop g "z0,$where,1" c wait interrupt stop D
[ "$(reply 1)" = "$(reply 3)" ] || fail 'the breakpoint is in what a debugger reads'
case $(reply 4) in T05*swbreak*) ;; *) fail "the breakpoint at $where was answered by $(reply 4)" ;; esac
[ "$(eip "$(reply 5)")" = "$where" ] || fail "a breakpoint at $where stopped at $(eip "$(reply 5)")"
case $(reply 7) in [ST]02*) ;; *) fail "ctrl-C was answered by $(reply 7)" ;; esac
[ "$(reply 8)" = OK ] || fail "it was let go with $(reply 8)"
spinning $launcher || fail 'the guest does not run without the debugger'
gdb k
wait $launcher; status=$?
[ $status = 137 ] || fail 'the guest that was killed ended with status' $status
unload
