# Who is in the node's group runs guests, without a capability and without a right to lock memory.
load strategy=lguest seed=42
users_up
# node WANTED: fails unless these are its mode and owners.
node() {
    [ "$(stat -c '%a %U %G' /dev/lguest)" = "$1" ] || fail 'the node is' "$(stat -c '%a %U %G' /dev/lguest), not $1"
}
node '660 root root'
as alice lguest $GUEST test=none 2>/tmp/error && fail 'who is in no group of the node runs a guest'
cat /tmp/error
grep -q '60-lguest.rules' /tmp/error || fail 'the message does not say what is missing'
udev
node '660 root lguest'
[ "$(as alice sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)" = 0000000000000000 ] || fail 'alice has capabilities'
[ "$(as alice sh -c 'ulimit -l')" = 0 ] || fail 'alice may lock memory'
for strategy in lguest shared; do
    as alice lguest --strategy $strategy $GUEST test=full || fail "on $strategy the guest ended with status" $?
done
as mallory lguest $GUEST test=none 2>/tmp/error && fail 'who is not in the group runs a guest'
cat /tmp/error
grep -q 'usermod -aG lguest' /tmp/error || fail 'the message does not say how to come into the group'
unload
