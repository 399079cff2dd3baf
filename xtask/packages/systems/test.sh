# The system in which the packages are tested (src/checks.rs): Debian 12 with its last kernel but one, and what it takes to
# build modules. It is without a network, so what will be installed later is downloaded now.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt='apt-get -q -y --no-install-recommends'

# The names of all 686 kernels, oldest first; the newest is what linux-image-686 depends on.
kernels=$(apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-686$' | sed 's/^linux-image-\([^ ]*\) .*/\1/' | sort -V)
old=$(echo "$kernels" | tail -n 2 | head -n 1)
upgrade='linux-image-686 linux-headers-686'
# Where Debian has one kernel only, the other flavour's is a new kernel as well.
[ "$(echo "$kernels" | wc -l)" -gt 1 ] || upgrade='linux-image-686-pae linux-headers-686-pae'
echo "$upgrade" >/root/upgrade

$apt install "linux-image-$old" "linux-headers-$old" make
$apt --download-only install dkms $upgrade

cat >/usr/local/sbin/run-steps <<'END'
#!/bin/sh
# Runs the steps on the disk `steps`, as init of the host VM does (xtask/vm/init.sh), and switches off.
exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 115200 raw -echo
echo 8 >/proc/sys/kernel/printk
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root
mount -o ro -L steps /mnt
while read -r file limit; do
    echo "@@ begin $file"
    timeout -s KILL "$limit" sh "/mnt/steps/$file" </dev/null
    echo "@@ end $file rc=$?"
done </mnt/steps/list
echo "@@ done"
systemctl poweroff
END
chmod +x /usr/local/sbin/run-steps
cat >/etc/systemd/system/run-steps.service <<'END'
[Unit]
Description=Steps of a test

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/run-steps
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
END
systemctl enable run-steps
