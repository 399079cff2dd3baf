# The policy of examples/policy-plugin in a module that was built with it.
mkdir -p /lib/modules/$(uname -r)
touch /lib/modules/$(uname -r)/modules.dep # or modinfo gives up
modinfo -F strategy /lib/lg.ko >/tmp/fields || fail 'modinfo ended with' $?
grep -q '^lguest .*slots=4' /tmp/fields || fail 'modinfo does not list lguest'
grep -q '^mru ' /tmp/fields && fail 'mru is no plug-in'
modinfo -F strategy /guests/lg-with-plugin.ko >/tmp/fields
grep -q '^mru ' /tmp/fields || fail 'modinfo does not list the plug-in'
insmod /guests/lg-with-plugin.ko strategy=mru:slots=2 || fail 'the module was refused'
parameter strategies | grep -q '^mru ' || fail 'strategies does not list the plug-in'
lguest --counters=/tmp/counters $GUEST test=quick || fail 'the guest ended with status' $?
evictions=$(counter evictions /tmp/counters)
[ "$evictions" -gt 0 ] || fail 'the policy was never asked'
grep -q '^counter policy_errors 0$' /tmp/counters || fail 'the policy named slots that do not exist'
unload
