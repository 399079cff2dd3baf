# Parameters are set where modprobe.d has them.
sed -i 's/^#\(options lg strategy=\)/\1/' /etc/modprobe.d/lguest.conf
modprobe lg
[ "$(parameter strategy)" = lru:slots=8 ] || fail "the strategy is $(parameter strategy)"
modprobe -r lg
