# The packages take all that is theirs with them, the module that is loaded too.
[ -e /sys/module/lg ] || modprobe lg
apt-get purge -y 'lguest*' || fail 'apt does not remove the packages'
[ ! -e /sys/module/lg ] || fail 'the module is still loaded'
[ ! -e /dev/lguest ] || fail 'the device is still there'
getent group lguest && fail 'the group is still there'
dpkg-query --show 'lguest*' 2>/dev/null | grep . && fail 'dpkg still knows the packages'
find / -xdev \( -path /root -o -path /proc \) -prune -o \( -iname '*lguest*' -o -name 'lg.ko*' \) -print | grep . &&
    fail 'these files are left'
# Names that end with a - are copies that groupdel leaves of what it has changed.
grep -rl --exclude='*-' lguest /etc /lib/modules/*/modules.* && fail 'these files still speak of it'
true
