# The folder of each guest in debugfs: read while the guest runs, by many at once, and while it comes to its end.
views=/sys/kernel/debug/lguest
# folder LAUNCHER: that of its guest.
folder() {
    echo $views/$1-*
}
# of_view NAME: a counter as the guest's folder has it.
of_view() {
    sed -n "s/^$1 //p" $guest/counters
}
more() {
    [ "$(of_view world_switches)" -gt "$1" ]
}
# stopped LAUNCHER: whether all of its threads have been stopped.
stopped() {
    for thread in /proc/$1/task/*/stat; do
        read -r pid name state rest <$thread
        [ $state = T ] || return 1
    done
}
no_folder() {
    [ "$(ls $views)" = recordings ]
}
load
no_folder || fail "there are guests: $(ls $views)"
lguest top --once >/tmp/top || fail 'lguest top without a guest ended with status' $?
grep -q '^lguest top: no guest,' /tmp/top || fail "$(cat /tmp/top)"
spin --strategy lru:slots=8
guest=$(folder $launcher)
[ -d "$guest" ] || fail "the guest has no folder: $(ls $views)"
for file in counters directories tables; do
    [ "$(stat -c %a $guest/$file)" = 400 ] || fail "$file is not root's alone"
done
users_up
as mallory cat $guest/counters 2>/dev/null && fail 'the counters are for everybody'
# The guest runs on.
before=$(of_view world_switches)
until_true 60 more "$before" || fail 'the guest has come to a stop'
[ "$(of_view page_directory_loads)" -gt 0 ] || fail 'there are no loads'
# Between a load of a page directory and the SET_STACK that follows it, the stack of the process before may not be mapped.
stack_is_mapped() {
    awk '$2 == "yes" { print $3 }' $guest/directories | grep -q yes
}
until_true 60 stack_is_mapped || fail 'the kernel stack is not mapped'
# A launcher that is stopped has left its guest, of which everything is of one moment then.
at_one_moment() {
    kill -STOP $launcher
    until_true 60 stopped $launcher || fail 'the launcher does not stop'
    cat $guest/directories >/tmp/directories
    cat $guest/tables >/tmp/tables
    kill -CONT $launcher
    [ "$(awk 'NR > 1 && $2 == "yes"' /tmp/directories | wc -l)" = 1 ] || fail "no page directory is current: $(cat /tmp/directories)"
    entries=$(awk 'NR > 1 { own += $5; shared = $6 } END { print own + shared }' /tmp/directories)
    dumped=$(($(wc -l </tmp/tables) - 1))
    [ $entries = $dumped ] || fail "the directories have $entries entries, the tables $dumped"
    # The moment after a flush of everything has hardly any.
    [ $dumped -ge 10 ]
}
until_true 60 at_one_moment || fail "the tables have never more than $dumped entries"
head -3 /tmp/directories /tmp/tables
lguest top --pid $launcher --interval 0.5 --once --csv /tmp/csv >/tmp/top || fail 'lguest top ended with status' $?
grep -q '^lguest top: 1 guest,' /tmp/top && grep -q "^${guest##*/} " /tmp/top || fail "$(cat /tmp/top)"
cat /tmp/top
[ "$(wc -l </tmp/csv)" = $(($(wc -l <$guest/counters) + 1)) ] || fail "the log: $(cat /tmp/csv)"
lguest top --pid 1 --once 2>/tmp/top; [ $? = 125 ] || fail 'process 1 has a guest'
grep -q "process 1 has no guest; .*: $launcher\$" /tmp/top || fail "$(cat /tmp/top)"
as mallory lguest top --once 2>/tmp/top; [ $? = 125 ] || fail 'everybody may look at guests'
grep -q 'only root may look' /tmp/top || fail "$(cat /tmp/top)"
# Many readers, and the guest's end below them. One holds a file open beyond that: it has what it has opened.
exec 3<$guest/tables
for reader in 1 2 3 4; do
    (while cat $guest/* >/dev/null 2>&1; do :; done) & readers="$readers $!"
done
before=$(of_view world_switches)
until_true 60 more "$before" || fail 'the guest does not get on beside its readers'
kill -9 $launcher
wait $launcher
until_true 60 no_folder || fail "a folder is left: $(ls $views)"
wait $readers
until_true 60 nothing_held
# (A guest that had just flushed everything has few lines behind the first.)
[ "$(head -n 1 <&3)" = "$(head -n 1 /tmp/tables)" ] || fail 'what was open is gone'
rmmod lg 2>/dev/null && fail 'the module goes while a file is open'
exec 3<&-
until_true 60 rmmod lg || fail 'the module does not go'
[ ! -e $views ] || fail 'the folder outlives the module'
# A guest's life beside somebody who reads all there is: whatever there is of it at that moment.
load
(while [ -e /sys/module/lg ]; do cat $views/*/* >/dev/null 2>&1; usleep 20000; done) & reader=$!
for strategy in lguest shared record:of=lru tlb; do
    lguest --strategy $strategy $GUEST bench=ctx8p4 scale=5 || fail "on $strategy the guest ended with status" $?
done
lguest --strategy lguest $GUEST result=7; [ $? = 7 ] || fail 'the result is not the guest'\''s'
until_true 60 rmmod lg || fail 'the module does not go'
wait $reader
