load strategy=lru seed=42
[ "$(parameter strategy)" = lru ] || fail 'strategy reads' "$(parameter strategy)"
[ "$(parameter seed)" = 42 ] || fail 'seed reads' "$(parameter seed)"
parameter strategies
for name in lguest lru; do
    parameter strategies | grep -q $name || fail "strategies does not list $name"
done
# What a constructor has registered.
parameter strategies | grep -q ' shared-lirs ' || fail 'strategies lists no short names'
lguest --counters=/tmp/counters --strategy shared-lirs $GUEST test=quick || fail 'the guest ended with status' $?
grep -q '^counter policy_errors 0$' /tmp/counters || fail 'the policy named slots that do not exist'
unload
