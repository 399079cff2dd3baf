load
mkdir -p /etc; echo 'guest:x:1234:5678::/:/bin/sh' >/etc/passwd
for user in nosuch 77 guest:wheel; do
    lguest --user $user $GUEST test=none 2>/tmp/error && fail "--user $user was taken"
    [ $? = 125 ] || fail "the launcher's status is" $?
    cat /tmp/error
    grep -q -e --user /tmp/error || fail 'the message does not name the option'
done
spin --user guest
only $launcher Uid '1234 1234 1234 1234'
only $launcher Gid '5678 5678 5678 5678'
kill -9 $launcher
wait $launcher
until_true 20 no_launcher || fail 'the helper outlives the launcher'
rm /etc/passwd
unload
