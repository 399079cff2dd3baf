# A kernel that insists on signatures refuses the module, in the words that docs/install.md explains.
echo 1 >/sys/module/module/parameters/sig_enforce || fail 'this kernel cannot insist on signatures'
insmod /root/module 2>/tmp/error && fail 'a module was loaded that nobody trusts'
cat /tmp/error
