# The guest runs on as before, its files having been opened by root: a file that only root can write gets
# the counters, one that only root can read is the disk.
load strategy=lguest seed=42
truncate -s 1M /tmp/disk; chmod 600 /tmp/disk
insmod /lib/tun.ko || fail 'insmod tun.ko was refused'
spin --user 1234:5678 --rng --tunnet tap0 --block /tmp/disk
[ -e /sys/class/net/tap0 ] || fail 'there is no interface for the guest'
only $launcher Uid '1234 1234 1234 1234'
only $launcher Gid '5678 5678 5678 5678'
only $launcher Groups ''
for set in CapInh CapPrm CapEff CapBnd CapAmb; do only $launcher $set 0000000000000000; done
only $launcher NoNewPrivs 1
kill $launcher
wait $launcher; [ $? = 143 ] || fail 'the terminated launcher ended with status' $?
[ ! -e /sys/class/net/tap0 ] || fail 'the interface is left'
rmmod tun
(umask 077; lguest --user 1234:5678 --counters=/tmp/counters $GUEST test=quick)
[ $? = 0 ] || fail 'the guest of another user ended with status' $?
grep -q '^counter world_switches' /tmp/counters || fail 'there are no counters'
unload
