# packet TEXT: as GDB sends it.
packet() {
    sum=$(printf %s "$1" | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) s += $i } END { printf "%02x", s % 256 }')
    printf '$%s#%s' "$1" "$sum"
}
# answered NUMBER: whether so many packets have been answered.
answered() {
    [ "$(tr -cd '$' </tmp/answers | wc -c)" -ge "$1" ]
}
# reply NUMBER: one of them.
reply() {
    tr '#' '\n' </tmp/answers | sed -n 's/^.*\$//p' | sed -n "$1p"
}
# eip REGISTERS: the ninth register, most significant byte first.
eip() {
    echo "$1" | cut -c65-72 | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/'
}
# gdb PACKET...: a debugger that sends these packets; what the launcher answers is in /tmp/answers. HERE is where the registers, the
# first answer, say that the guest stands. `stop` waits for the answers to all so far, that of the guest's stop among them, `soon` only
# for a while, after which it is `interrupt`, ctrl-C; `wait` lets the guest run for a while.
gdb() {
    : >/tmp/answers
    sent=0
    for packet in "$@"; do
        case $packet in
        soon) until_true 3 answered $sent || printf '\003'; until_true 60 answered $sent ;;
        stop) until_true 60 answered $sent ;;
        wait) sleep 1 ;;
        interrupt) printf '\003' ;;
        *) packet "$(echo "$packet" | sed "s/HERE/$(eip "$(reply 1)")/")"; sent=$((sent + 1)) ;;
        esac
    done | nc 127.0.0.1 1234 >/tmp/answers
}
load
ifconfig lo 127.0.0.1 up
lguest --user 1234:5678 --gdb 1234 $GUEST spin >/tmp/spin 2>&1 &
launcher=$!
until_true 30 grep -q ':04D2 ' /proc/net/tcp || fail 'nobody waits for a debugger'
sleep 2
grep -q 'mini: spinning' /tmp/spin && fail 'the guest does not wait for a debugger'
grep -q "waits for a debugger at port 1234: gdb vmlinux -ex 'target remote :1234'" /tmp/spin ||
    fail "nobody says how to connect: $(cat /tmp/spin)"
# It begins where its kernel's file says, in ring 1, and is stepped there.
gdb g s stop g D
first=$(eip "$(reply 1)")
[ "$(reply 1 | cut -c81-82)" = 61 ] || fail "the guest begins with the code segment $(reply 1 | cut -c81-88)"
case $(reply 2) in [ST]05*) ;; *) fail "a step ends with $(reply 2)" ;; esac
[ "$(eip "$(reply 3)")" != "$first" ] || fail "a step has left the guest at $first"
# Without a debugger it runs.
until_true 60 grep -qs 'mini: spinning' /tmp/spin || fail "the guest does not run: $(cat /tmp/spin)"
# It goes round, and comes by again nearly wherever it is stopped; if it does not, that was a place of its start, and another is tried.
for attempt in 1 2 3 4; do
    gdb g stop mHERE,1 Z0,HERE,1 mHERE,1 c soon g z0,HERE,1 c wait interrupt stop D
    case $(reply 5) in [ST]02*) ;; *) break ;; esac
done
where=$(eip "$(reply 1)")
[ "$(reply 2)" = "$(reply 4)" ] || fail 'the breakpoint is in what a debugger reads'
case $(reply 5) in T05*swbreak*) ;; *) fail "the breakpoint at $where was answered by $(reply 5)" ;; esac
[ "$(eip "$(reply 6)")" = "$where" ] || fail "a breakpoint at $where stopped at $(eip "$(reply 6)")"
case $(reply 8) in [ST]02*) ;; *) fail "ctrl-C was answered by $(reply 8)" ;; esac
[ "$(reply 9)" = OK ] || fail "it was let go with $(reply 9)"
spinning $launcher || fail 'the guest does not run without the debugger'
# GDB removes its breakpoints before it detaches; at one that was hit, the guest goes on, too.
for attempt in 1 2 3 4; do
    gdb g stop Z0,HERE,1 c soon z0,HERE,1 D
    case $(reply 3) in [ST]02*) ;; *) break ;; esac
done
case $(reply 3) in T05*swbreak*) ;; *) fail "the breakpoint at $(eip "$(reply 1)") was answered by $(reply 3)" ;; esac
[ "$(reply 5)" = OK ] || fail "it was let go at a breakpoint with $(reply 5)"
before=$(ticks $launcher)
until_true 60 has_more $launcher $((before + 20)) 2>/dev/null ||
    fail "a guest that was let go at a breakpoint does not run: $(cat /tmp/spin)"
gdb k
wait $launcher; status=$?
[ $status = 137 ] || fail 'the guest that was killed ended with status' $status
unload
