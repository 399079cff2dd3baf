# Each life requires the device anew, and its recording, which only root can open.
load strategy=lguest seed=42
for user in '' '--user 1234:5678'; do
    lguest $user --restart-limit 3 --record /tmp/trace $GUEST restart >/tmp/out 2>&1; status=$?
    cat /tmp/out
    [ $status = 122 ] || fail "the launcher ended with status $status"
    [ "$(grep -c 'mini: restarting' /tmp/out)" = 4 ] || fail 'the guest had not just 4 lives'
    [ -s /tmp/trace ] || fail 'there is no recording'
    has_landlock && grep -q 'no Landlock' /tmp/out && fail 'the launcher is not confined'
done
until_true 20 no_launcher || fail 'a process is left'
unload
