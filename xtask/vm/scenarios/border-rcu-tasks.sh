# To remove a tracer of one instance of ftrace takes RCU-tasks, which wait for every process to be quiescent.
# Beside a guest that spins that takes as long as beside a process that does. (Only where guest and tracer run at
# the same time: one processor would be the tracer's first.)
[ $(nproc) -gt 1 ] || exit 0
load
traces=/sys/kernel/tracing/instances
removal() {
    /guests/hostile-launcher $1 & spinner=$!
    until_true 60 busy $spinner || fail "$1 does not run"
    mkdir $traces/border || fail 'there is no ftrace'
    echo do_sys_open >$traces/border/set_ftrace_filter
    echo function >$traces/border/current_tracer || fail 'there is no function tracer'
    begun=$(cut -d. -f1 /proc/uptime)
    echo nop >$traces/border/current_tracer
    took=$(($(cut -d. -f1 /proc/uptime) - begun))
    rmdir $traces/border
    kill -9 $spinner
    wait $spinner
    echo "beside $1 the tracer was removed within $took s"
}
removal spin-natively
native=$took
removal spin
[ $took -le $((2 * native + 10)) ] || fail 'a guest that spins holds RCU-tasks up'
unload
