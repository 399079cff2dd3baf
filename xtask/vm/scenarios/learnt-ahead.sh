# Where a guest touches one page of its memory after the other, the host finds the next ones, too, before they are touched, unless it
# must not. Each page whose frame is found when it is touched costs an exit.
# exits [OPTION...]: how often the guest is left that touches 1000 pages.
exits() {
    lguest --memory 32M --counters --strategy lguest "$@" /guests/mini-guest bench=mmap1000 scale=1 seed=1 >/tmp/out 2>/tmp/counters ||
        fail "the guest ended with status $?"
    counter world_switches /tmp/counters
}
load seed=42
[ "$(parameter ahead)" = Y ] || fail 'ahead reads' "$(parameter ahead)"
for options in '' --prealloc; do
    ahead=$(exits $options)
    echo N >/sys/module/lg/parameters/ahead
    alone=$(exits $options)
    echo Y >/sys/module/lg/parameters/ahead
    [ "$alone" -gt $((ahead + 800)) ] ||
        fail "$options: the guest was left $ahead times, and $alone times where each of its 1000 pages was found alone"
done
unload
