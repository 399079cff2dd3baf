load strategy=lguest seed=42
lguest $GUEST test=full || fail 'the guest ended with status' $?
unload
