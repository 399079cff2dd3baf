load
lguest $GUEST hostile=escapes-as-last-word >/tmp/out 2>/tmp/error
[ $? = 121 ] || fail 'the crash came out as' $?
cat -v /tmp/error
has_landlock || sed -i '/this kernel has no Landlock/d' /tmp/error
[ "$(wc -l </tmp/error)" = 1 ] || fail 'the last word has made more than one line'
grep -q '^lguest: the guest crashed: \\u{1b}\[2J' /tmp/error || fail 'the last word is not shown'
grep -q '[^ -~]' /tmp/error && fail 'control characters come through'
unload
