# A new kernel gets a module of its own; the one that runs keeps its own.
uname -r >/root/old
apt-get install -y --no-install-recommends $(cat /root/upgrade) || fail 'apt does not install the new kernel'
ls /lib/modules
[ "$(ls /lib/modules | wc -l)" = 2 ] || fail 'there are not two kernels'
for kernel in $(ls /lib/modules); do
    [ -e /lib/modules/$kernel/updates/dkms/lg.ko ] || fail "$kernel has no module"
done
