#!/bin/bash
# One test host, from its first process on: host.sh FOLDER ADDRESS/LENGTH. Started by lab.py in namespaces of its own.
set -eu
folder=$1 address=$2
until [ -e "$folder/wired" ]; do sleep 0.05; done # its network card has been put in
ip link set lo up && ip address add "$address" dev eth0 && ip link set eth0 up
hostname "host-${address%/*}"

# Of its own: /tmp (but what the tests are run from, where that is in there), /run with the home, shared memory.
for kept in $KEEP; do
  mkdir -p "$folder$kept" && mount --bind "$kept" "$folder$kept"
done
mount --rbind "$folder/tmp" /tmp
mount -t tmpfs tmpfs /run && mkdir -p /run/sshd /run/ubuntu && mount --bind "$folder/home" /run/ubuntu
mount -t tmpfs -o mode=1777,size=1g tmpfs /dev/shm

# The user that the cluster files name, with the rights of root: the checkout and its Python may be anywhere.
# Before root itself: ssh looks up by the number where ~ is.
{ echo "ubuntu:x:0:0::/run/ubuntu:/bin/bash" && grep -v '^ubuntu:' /etc/passwd; } >"$folder/passwd"
{ grep -v '^ubuntu:' /etc/shadow && echo "ubuntu:*:19000:0:99999:7:::"; } >"$folder/shadow"
# Without a route out Ray finds a machine's own address by its name. There is no name server.
{ echo "127.0.0.1 localhost" && for ip in $ADDRESSES; do echo "$ip host-$ip"; done; } >"$folder/hosts"
: >"$folder/resolv.conf"
for file in passwd shadow hosts resolv.conf; do mount --bind "$folder/$file" "/etc/$file"; done

/usr/sbin/sshd -D -e -f /dev/null -h "$LAB/host_key" -o PidFile=none -o UsePAM=no -o StrictModes=no \
  -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password -o AuthorizedKeysFile="$LAB/authorized_keys" \
  -o Subsystem="sftp internal-sftp" &
while kill -0 %1; do wait -n || true; done # the first process reaps what Ray's daemons leave behind
