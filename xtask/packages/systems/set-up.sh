# What is set up in every system (src/system.rs): its name, its disk, its network, and what GRUB starts. Debian keeps
# /vmlinuz and /initrd.img as links to its newest kernel, so GRUB need not be told of a new one.
echo "$NAME" >/etc/hostname
echo "127.0.0.1 localhost $NAME" >/etc/hosts
echo 'LABEL=debian / ext4 errors=remount-ro 0 1' >/etc/fstab
mkdir -p /etc/network/interfaces.d /boot/grub
cat >/etc/network/interfaces.d/any <<END
auto lo
iface lo inet loopback
allow-hotplug eth0
iface eth0 inet dhcp
END
cat >/boot/grub/grub.cfg <<END
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
linux /vmlinuz root=LABEL=debian ro net.ifnames=0 $WORDS
initrd /initrd.img
boot
END
