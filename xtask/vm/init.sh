#!/bin/busybox sh
# The first process of the host VM: runs the steps that xtask has put into /steps, one after the other, and
# reports how each ended by marker lines (xtask/src/steps.rs reads them). With `lg.shell=host` on the kernel's
# command line it gives a shell instead, with `lg.shell=guest` that of the Linux guest.
/bin/busybox mkdir -p /proc /sys /dev /tmp /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t debugfs debugfs /sys/kernel/debug
/bin/busybox mount -t tracefs tracefs /sys/kernel/tracing
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox --install -s /bin
/bin/busybox ifconfig lo up
export PATH=/bin HOME=/root

if grep -q lg.shell /proc/cmdline; then
    # What is about the Linux guest is shown where there is one.
    if [ -e /guests/linux ]; then cat /etc/motd; else grep -v linux-guest /etc/motd; fi >/dev/ttyS0
    cd /root
    shell='sh -l'
    if grep -q lg.shell=guest /proc/cmdline; then
        insmod /lib/lg.ko strategy=lguest seed=42
        shell=linux-guest
    fi
    # A shell with job control needs a session with a terminal of its own.
    setsid sh -c "exec $shell </dev/ttyS0 >/dev/ttyS0 2>&1"
    poweroff -f
fi

exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 115200 raw -echo
# From here on the kernel's console, which is another line, shows every message.
echo 8 >/proc/sys/kernel/printk
while read -r file limit; do
    echo "@@ begin $file"
    timeout -s KILL "$limit" sh "/steps/$file" </dev/null
    echo "@@ end $file rc=$?"
done </steps/list
echo "@@ done"
poweroff -f
