# Under audit a mistake of the host's kills the guest, so that its success proves there is none.
load audit=64
for strategy in lguest shared; do
    lguest --counters=/tmp/counters --strategy $strategy $GUEST test=quick; status=$?
    [ $status = 0 ] || fail "on $strategy the guest ended with status" $status
    audits=$(counter audits /tmp/counters)
    [ "$audits" -gt 10 ] || fail "on $strategy there were only $audits audits"
    grep -q '^counter audit_defects 0$' /tmp/counters || fail 'the audit found defects'
done
unload
