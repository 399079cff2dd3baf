# What apt installs is complete, and the module is made for the kernel that runs.
apt-get install -y --no-install-recommends /mnt/packages/*.deb || fail 'apt does not install the packages'
dkms status | tee /tmp/status
grep -q "^lguest/.*, $(uname -r), i686: installed" /tmp/status || fail 'there is no module for this kernel'
[ "$(modinfo --field filename lg)" = "/lib/modules/$(uname -r)/updates/dkms/lg.ko" ] || fail 'the module is elsewhere'
modinfo lg | grep -q '^strategy: *shared' || fail 'modinfo does not list the strategies'
[ ! -e /sys/module/lg ] || fail 'the module is loaded though nobody has asked for it'
getent group lguest || fail 'there is no group lguest'
for page in man1/lguest.1 man1/replay.1 man1/lguest-linux.1 man4/lg.4; do
    [ -s /usr/share/man/$page.gz ] || fail "there is no manual page $page"
done
for file in bash-completion/completions/lguest zsh/vendor-completions/_lguest fish/vendor_completions.d/lguest.fish; do
    [ -s /usr/share/$file ] || fail "there are no completions $file"
done
replay --list | grep -q '^shared ' || fail 'replay does not list the strategies'
