load
lguest $GUEST result=7; [ $? = 7 ] || fail 'the result 7 came out as' $?
lguest $GUEST crash; [ $? = 121 ] || fail 'the crash came out as' $?
unload
