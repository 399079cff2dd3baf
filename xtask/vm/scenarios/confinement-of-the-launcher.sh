# By default root stays root, but for what makes it that; --confine=off leaves all as it was.
load
spin
only $launcher Uid '0 0 0 0'
for set in CapPrm CapEff CapBnd; do only $launcher $set 0000000000000000; done
only $launcher NoNewPrivs 1
kill -9 $launcher; wait $launcher
lguest --confine required $GUEST test=none || fail 'the guest ended with status' $?
spin --confine off
only $launcher NoNewPrivs 0
only $launcher CapEff "$(of $$ CapEff)"
kill -9 $launcher; wait $launcher
unload
