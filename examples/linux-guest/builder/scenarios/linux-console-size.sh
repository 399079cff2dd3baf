load
# A line that nobody has open forgets its size.
exec 3<>/dev/ttyS0
stty -F /dev/ttyS0 rows 40 cols 100
in_linux -- console-sizes 2 </dev/ttyS0 & guest=$!
until_true 60 grep -qs 'console: 40 100' /tmp/linux.out || fail 'the guest does not know the size of the console'
stty -F /dev/ttyS0 rows 50 cols 120
kill -WINCH "$(pidof lguest)"
wait $guest || fail 'the guest has not come to its end'
grep -q 'console: 50 120' /tmp/linux.out || fail 'the guest does not know the new size of the console'
exec 3>&-
unload
