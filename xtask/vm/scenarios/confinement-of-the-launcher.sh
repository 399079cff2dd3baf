# By default root stays root, but for what makes it that; --confine=off leaves all as it was.
load
spin
only $launcher Uid '0 0 0 0'
for set in CapPrm CapEff CapBnd; do only $launcher $set 0000000000000000; done
only $launcher NoNewPrivs 1
kill -9 $launcher; wait $launcher
# Without Landlock, what is required is refused.
has_landlock && required=0 || required=125
lguest --confine required $GUEST test=none; status=$?
[ $status = $required ] || fail 'the guest ended with status' $status
spin --confine off
only $launcher NoNewPrivs 0
only $launcher CapEff "$(of $$ CapEff)"
kill -9 $launcher; wait $launcher
unload
