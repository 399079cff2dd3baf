# The guest finds its console on the PCI bus, and prints by it in two ways; on every strategy that the counters may depend on.
load
for strategy in lguest shared record:of=lru; do
    lguest --counters=/tmp/counters --strategy $strategy $GUEST test=quick >/tmp/out 2>&1; status=$?
    [ $status = 0 ] || { cat /tmp/out; fail "the guest on $strategy ended with status" $status; }
    grep -q '^mini: ok pci-console' /tmp/out || fail 'the guest has not tried'
    for way in 'by the window' 'by a virtqueue'; do
        [ "$(grep -c "^pci: $way" /tmp/out)" = 1 ] || fail "on $strategy nothing was printed $way"
    done
    # A dozen configuration cycles a byte, two instructions each.
    passed=$(counter launcher_emulations /tmp/counters)
    echo "$strategy: $passed instructions for the launcher"
    [ "$passed" -gt 200 ] || fail "only $passed instructions were the launcher's"
done
unload
