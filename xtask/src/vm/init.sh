#!/bin/busybox sh
# The first process of the guest: makes a root of the host's files and empty folders, runs /run/vm-test/tests there,
# prints its status and switches the machine off. initramfs.rs puts before this what sets `MODULES`, `EMPTY` and `BOUND`.
for applet in $(busybox --list); do busybox ln -s busybox "/bin/$applet" 2>/dev/null; done
mkdir -p /proc /sys /dev /host /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in $MODULES; do
    if [ -f "/modules/$module.ko" ]; then insmod "/modules/$module.ko"; fi
done

# Read-only, however one gets at it.
mount -t virtiofs -o ro host /host || poweroff -f
mount --bind /host /root
for folder in $EMPTY; do mount -t tmpfs tmpfs "/root$folder"; done
chmod 1777 /root/tmp /root/var/tmp
printf '%s\n' "$BOUND" | while read -r folder; do
    mkdir -p "/root$folder"
    mount --bind "/host$folder" "/root$folder"
done

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t bpf bpf /root/sys/fs/bpf
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
ln -s /proc/self/fd /root/dev/fd
ip link set lo up
hostname vm-test

mkdir /root/run/vm-test
cp /bin/busybox /tests /root/run/vm-test/
cat > /root/run/vm-test/main <<'END'
cd /run/vm-test
echo "vm-test: kernel $(./busybox uname -r)"
# Through a pipe, as a terminal would change what programs print.
{ ./busybox sh ./tests 2>&1 </dev/null; echo "vm-test: status $?"; } | ./busybox cat
./busybox poweroff -f
END
exec switch_root /root /run/vm-test/busybox sh /run/vm-test/main
