# Who is in the node's group runs guests, without a capability and without a right to lock memory.
load strategy=lguest seed=42
users_up; udev
[ "$(stat -c '%a %U %G' /dev/lguest)" = '660 root lguest' ] || fail 'the node is' "$(stat -c '%a %U %G' /dev/lguest)"
[ "$(as alice sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)" = 0000000000000000 ] || fail 'alice has capabilities'
[ "$(as alice sh -c 'ulimit -l')" = 0 ] || fail 'alice may lock memory'
for strategy in lguest shared; do
    as alice lguest --strategy $strategy $GUEST test=full || fail "on $strategy the guest ended with status" $?
done
as mallory lguest $GUEST test=none 2>/tmp/error && fail 'who is not in the group runs a guest'
cat /tmp/error
grep -q 'usermod -aG lguest' /tmp/error || fail 'the message does not say how to come into the group'
unload
