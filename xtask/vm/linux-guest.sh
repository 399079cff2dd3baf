#!/bin/sh
# linux-guest [OPTION...] [-- WORD...]: starts the Linux guest that xtask has put into /guests, with these options
# of lguest. The WORDs are a command for its first process (examples/linux-guest/init); without any it gives a
# shell. $KERNEL is the name of another kernel there, $MEMORY another size than 64M, $APPEND more words for the
# kernel itself.
options=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options="$options $1"
    shift
done
kernel=${KERNEL:-linux}
# The guest's source of random numbers is the host's, which has none at first and keeps the processor busy until it
# has some; the guest should not run beside that.
head -c 1 /dev/random >/dev/null
# With time stamps a message of the guest's kernel differs from what its programs print.
exec lguest --memory "${MEMORY:-64M}" --rng --initrd "/guests/$kernel.initrd" $options \
    "/guests/$kernel" "console=hvc0 printk.time=1 $APPEND $*"
