# A user who has all the guests that he may have leaves some to the others; root's have no limit but that of all.
load max_guests=8 guests_per_user=2
users_up; udev
# guest_of USER: starts a guest in the background that spins; returns when it runs.
guest_of() {
    AS="as $1"
    spin
    AS=
}
# refused USER WORD: fails unless a guest of this user is refused with a message that has the word.
refused() {
    as "$1" lguest $GUEST test=none >/tmp/error 2>&1 && fail "$1 gets another guest"
    cat /tmp/error
    grep -q "$2" /tmp/error || fail "the message does not name $2"
}
guest_of alice; guest_of alice
refused alice guests_per_user
as bob lguest $GUEST test=quick || fail 'the guest of another user ended with status' $?
guest_of bob
# The limit holds from when it is written.
echo 3 >/sys/module/lg/parameters/guests_per_user
guest_of alice
refused alice guests_per_user
echo 1 >/sys/module/lg/parameters/guests_per_user
refused alice guests_per_user
refused bob guests_per_user
# A file that root has opened is root's, whoever uses it.
spin --user 1001:1001; spin --user 1001:1001
guest_of root; guest_of root
echo 8 >/sys/module/lg/parameters/guests_per_user
refused root max_guests
refused alice max_guests
killall -9 lguest
until_true 60 nothing_held
echo 0 >/sys/module/lg/parameters/guests_per_user
guest_of alice; guest_of alice
refused alice guests_per_user
killall -9 lguest
until_true 60 nothing_held
unload
