# Who has been given user IDs for a user namespace has no more guests with them.
load guests_per_user=3
users_up; udev
rm -f /tmp/out
AS='as alice'
spin
as alice /guests/hostile-launcher user-namespace >/tmp/out & act=$!
until_true 60 grep -qs 'waits for user IDs' /tmp/out || fail 'the act does not begin:' "$(cat /tmp/out)"
process=$(sed -n 's/^process \([0-9]*\) waits.*/\1/p' /tmp/out)
printf '0 1001 1\n1 100000 10\n' >/proc/$process/uid_map || fail 'the namespace takes no user IDs'
wait $act || fail 'the act ended with status' $?
cat /tmp/out
grep -q '^2 guests as another user' /tmp/out || fail 'other user IDs have a limit of their own'
killall -9 lguest
until_true 60 nothing_held
until_true 20 no_launcher
unload
