# A guest that writes to more memory than its launcher's cgroup has is killed with its launcher. Nothing is left, and the next
# one runs.
load
group_up 4M
in_group /guests/hostile-launcher hog; status=$?
[ $status = 137 ] || fail "the launcher ended with status $status"
grep '^oom_kill 1' $GROUP/memory.events || fail 'not for lack of memory'
until_true 60 nothing_held || fail 'something is left'
echo max >$GROUP/memory.max
in_group lguest $GUEST test=quick || fail 'the next guest ended with status' $?
unload
group_down
