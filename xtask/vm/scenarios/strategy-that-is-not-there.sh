dmesg -c >/dev/null
insmod /lib/lg.ko strategy=nosuch 2>/tmp/error && fail 'it was taken'
cat /tmp/error
grep -q 'Invalid argument' /tmp/error || fail 'the error is another one than EINVAL'
dmesg >/tmp/log
grep -q nosuch /tmp/log || fail 'the kernel log does not name it'
grep 'lguest' /tmp/log | grep -q 'lru' || fail 'the kernel log does not list what there is'
[ ! -e /sys/module/lg ] || fail 'a module is left'
load
unload
