load strategy=lru
lguest $GUEST test=full || fail 'the guest ended with status' $?
unload
