# Where a guest touches one page of its memory after the other, the host finds the next ones, too, before they are touched, unless it
# must not. Each page whose frame is found when it is touched costs an exit.
# exits [OPTION...]: how often the guest is left that touches 1000 pages.
exits() {
    lguest --memory 32M --counters --strategy lguest "$@" /guests/mini-guest bench=mmap1000 scale=1 seed=1 >/tmp/out 2>/tmp/counters ||
        return 1
    counter world_switches /tmp/counters
}
# saves [OPTION...]: proves that the guest is left less often where pages are found ahead.
saves() {
    ahead=$(exits "$@") || fail "the guest ended badly: $(cat /tmp/out /tmp/counters)"
    echo N >/sys/module/lg/parameters/ahead
    alone=$(exits "$@") || fail "with ahead=N the guest ended badly: $(cat /tmp/out /tmp/counters)"
    echo Y >/sys/module/lg/parameters/ahead
    [ "$alone" -gt $((ahead + 800)) ] ||
        fail "$*: the guest was left $ahead times, and $alone times where each of its 1000 pages was found alone"
}
load seed=42
[ "$(parameter ahead)" = Y ] || fail 'ahead reads' "$(parameter ahead)"
saves
# Linux before 5.14 has no MADV_POPULATE_WRITE, which --prealloc takes.
case $(uname -r) in
5.10.*) ;;
*) saves --prealloc ;;
esac
unload
