# The packages take all that is theirs with them, the module that is loaded too.
[ -e /sys/module/lg ] || modprobe lg
apt-get purge -y 'lguest*' || fail 'apt does not remove the packages'
[ ! -e /sys/module/lg ] || fail 'the module is still loaded'
[ ! -e /dev/lguest ] || fail 'the device is still there'
getent group lguest && fail 'the group is still there'
dpkg-query --show 'lguest*' 2>/dev/null | grep . && fail 'dpkg still knows the packages'
grep -rl lguest /etc /lib/modules/*/modules.* /var/lib/dkms && fail 'these files still speak of it'

# What is new since before the installation and of no package: what the new kernel and DKMS have made for themselves.
find / -xdev | sort >/root/after
cat /var/lib/dpkg/info/*.list | sed 's,^/\(bin\|lib\|sbin\)/,/usr/\1/,' | sort -u >/root/owned
comm -13 /root/before /root/after | comm -23 - /root/owned |
    grep -Ev '^/(root|home|tmp)/|^/var/(cache|log|tmp)/|^/var/lib/(apt|dpkg|systemd)/' >/root/new
cat /root/new
true
