# log STRATEGY: what is left in /tmp/log by a module that is not loaded, as there is no such strategy.
log() {
    dmesg -c >/dev/null
    insmod /lib/lg.ko strategy=$1 2>/tmp/error && fail "$1 was taken"
    cat /tmp/error
    grep -q 'Invalid argument' /tmp/error || fail 'the error is another one than EINVAL'
    [ ! -e /sys/module/lg ] || fail 'a module is left'
    # The kernel's own line, which names the parameter, comes after ours: both are all that `dmesg | tail -n 2` shows.
    dmesg | tail -n 2 >/tmp/log
    cat /tmp/log
}
log nosuch
grep -q 'lg: no strategy is named `nosuch`; there are 2q, .* lguest, .* tlb, .*(`modinfo lg`, .*lists all' /tmp/log ||
    fail 'the end of the kernel log does not say what there is'
log lur:slots=8
grep -q 'no strategy is named `lur` (is `lru` meant?)' /tmp/log || fail 'the kernel log does not say what was meant'
log lru:slot=8
grep -q 'strategy `lru` has no parameter `slot`; it has slots (`modinfo' /tmp/log || fail 'the parameter is not named'
load
unload
