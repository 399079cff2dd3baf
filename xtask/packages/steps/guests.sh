# Members of the group run guests on the strategy that the module is loaded with; others do not.
for user in alice mallory; do useradd --create-home --shell /bin/sh $user; done
usermod -aG lguest alice
modprobe lg strategy=lru || fail 'the module does not load'
[ "$(parameter strategy)" = lru ] || fail "the strategy is $(parameter strategy)"
udevadm settle
node=$(stat -c '%a %U %G' /dev/lguest)
[ "$node" = '660 root lguest' ] || fail "the node is $node"
guest_of alice
as mallory 'lguest /mnt/guests/mini-guest' && fail 'who is not in the group runs a guest'
modprobe -r lg || fail 'the module does not go'
