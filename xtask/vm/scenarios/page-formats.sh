# Every host runs a guest with 2-level tables, a PAE host the other kind too.
load strategy=lguest seed=42
lguest --paging 2-level $GUEST test=quick >/tmp/out; status=$?
cat /tmp/out
[ $status = 0 ] || fail 'the 2-level guest ended with status' $status
grep -q 'mini: 2-level page tables' /tmp/out || fail 'the guest is not a 2-level one'
lguest --strategy pae $GUEST test=quick; pae=$?
lguest --paging pae $GUEST test=quick >/tmp/out 2>&1; status=$?
cat /tmp/out
[ $pae = $status ] || fail 'strategy pae made it' $pae
if [ "$(parameter paging)" = PAE ]; then
    [ $status = 0 ] || fail 'the PAE guest ended with status' $status
    grep -q 'mini: PAE page tables' /tmp/out || fail 'the guest is not a PAE one'
else
    [ $status = 125 ] || fail 'the launcher did not say that it could not start'
    grep -q 686-pae /tmp/out || fail 'the launcher does not say which kernel would do'
    dmesg | grep -q 'PAE page tables cannot run' || fail 'the log does not tell the reason'
fi
unload
