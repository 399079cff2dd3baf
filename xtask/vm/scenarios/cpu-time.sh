# A guest that is busy has what it was given, and no more. (Its time is its launcher's.)
load
begun=$(hundredths)
lguest --user 1234:5678 --cpu-time 2 $GUEST spin >/tmp/spin 2>&1; status=$?
took=$(($(hundredths) - begun))
cat /tmp/spin
[ $status = 152 ] || fail 'the guest ended with status' $status
grep -q 'had the 2 s of processor time' /tmp/spin || fail 'the launcher does not say why the guest has ended'
[ $took -ge 190 ] || fail "the guest had only $took hundredths of a second"
# So has one whose launcher's time is limited by Linux, which acts on a process's way back to its program (24: SIGXCPU).
(ulimit -S -t 2; exec lguest --user 1234:5678 $GUEST spin) >/tmp/spin 2>&1; status=$?
cat /tmp/spin
[ $status = 152 ] || fail 'by ulimit, the guest ended with status' $status
# One that is done before is left alone.
lguest --cpu-time 1000 $GUEST test=none || fail 'the guest ended with status' $?
unload
