# The system of the disk image (src/image.rs): the packages, which are in /root, a user who may run guests, and a login without a
# password on the screen and on the serial line.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt-get -q -y --no-install-recommends install /root/*.deb
rm /root/*.deb
ls -l /lib/modules/*/updates/dkms/lg.ko
echo lg >/etc/modules-load.d/lguest.conf

useradd --create-home --shell /bin/bash --groups lguest,sudo student
echo student:student | chpasswd
echo '%sudo ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/sudo
for terminal in getty@tty1 serial-getty@ttyS0; do
    mkdir -p /etc/systemd/system/$terminal.service.d
    cat >/etc/systemd/system/$terminal.service.d/login.conf <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin student --noclear %I $TERM
END
done
cat >/etc/motd <<'END'

  Debian 12 with lguest. You are student, whose password is student, and who may use sudo.

    lguest-linux                       a Linux guest, on the strategy lguest; exit ends it
    lguest-linux --strategy shared     the same on another; modinfo lg lists them
    lguest-linux -- guest-bench fork   what a fork costs in the guest
    sudo lguest top                    what guests do, per second (Ctrl-C ends it); for one to look at, first:
      lguest-linux --strategy lru:slots=2 -- guest-bench --scale 100000 ctx16 </dev/null >/dev/null &
    man lguest, man replay, man 4 lg   what else there is
    sudo poweroff                      switches this machine off

END
