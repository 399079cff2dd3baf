# A guest that needs more memory than its launcher's cgroup has, without swap space, is killed with its launcher. Nothing is
# left, and the next one runs.
load
group_up 32M
in_group linux-guest -- dd if=/dev/zero of=/dev/null bs=28M count=1 >/tmp/killed 2>&1; status=$?
cat /tmp/killed
[ $status = 137 ] || fail "the launcher ended with status $status"
grep -q '^guest: Linux' /tmp/killed || fail 'the guest has not even booted'
grep '^oom_kill 1' $GROUP/memory.events || fail 'not for lack of memory'
until_true 60 nothing_held || fail 'something is left'
echo max >$GROUP/memory.max
in_group in_linux -- dd if=/dev/zero of=/dev/null bs=28M count=1 || exit 1
rm /tmp/killed
unload
group_down
