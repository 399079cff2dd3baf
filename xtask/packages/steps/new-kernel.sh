# The system has started with the new kernel, whose module works.
[ "$(uname -r)" != "$(cat /root/old)" ] || fail 'the old kernel runs'
modprobe lg || fail 'the module does not load'
guest_of alice
cp "$(modinfo --field filename lg)" /root/module
