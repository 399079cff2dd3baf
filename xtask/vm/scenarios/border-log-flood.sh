# Launchers cannot fill the log, and what the administrator asks for is in it all the same.
load
dmesg -c >/dev/null
/guests/hostile-launcher log-flood || fail 'the host has not stood it'
echo administrators >/sys/module/lg/parameters/strategy && fail 'a strategy was taken that is not there'
dmesg >/tmp/log
lines=$(grep -c flood /tmp/log)
echo "$lines lines for 10000 strategies that are not there"
[ $lines -ge 1 ] || fail 'the log says nothing of it'
[ $lines -le 100 ] || fail 'a launcher can fill the log'
grep -q administrators /tmp/log || fail "the administrator's mistake is lost"
unload
