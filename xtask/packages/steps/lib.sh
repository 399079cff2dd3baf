# Functions of the steps in an installed system (src/checks.rs). The packages are in /mnt/packages.

# fail TEXT...: ends the step, printing why.
fail() {
    echo "failed: $*"
    exit 1
}

# parameter NAME: the module's own answer.
parameter() {
    cat "/sys/module/lg/parameters/$1"
}

# as USER COMMAND: runs it as a user who has just logged in.
as() {
    su --login "$1" --command "$2"
}

# guest_of USER: fails unless a guest of this user passes its own test.
guest_of() {
    as "$1" 'lguest /mnt/guests/mini-guest test=full' || fail "the guest of $1 ended with status $?"
}
