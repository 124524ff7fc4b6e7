#!/bin/bash
# A whole Ceph cluster of one monitor, one manager and one object store in memory, with an S3 gateway, on loopback.
# Usage: ceph.sh DIR PORT [ADDRESS]; the gateway listens on ADDRESS. Its processes write their numbers below DIR/run; whoever started it ends them.
set -euo pipefail
dir=$1 port=$2 address=${3:-127.0.0.1} mon_port=$(($2 + 1)) old_mon_port=$(($2 + 2))
mkdir -p "$dir"/{mon,osd,mgr,run,rgw}
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$mon_port,v1:127.0.0.1:$old_mon_port]
ms bind port min = 20000
ms bind port max = 29000
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
# Changes of the maps are agreed on at once, not once a second: to begin takes a tenth of the time.
paxos propose interval = 0.05
paxos min wait = 0.01
mon max pg per osd = 1000
mon data avail crit = 1
run dir = $dir/run
pid file = $dir/run/\$name.pid
admin socket = $dir/run/\$name.asok
log file = $dir/\$name.log
[mon.a]
mon data = $dir/mon
mon addr = 127.0.0.1:$old_mon_port
[osd.0]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[mgr.x]
mgr data = $dir/mgr
[client.rgw]
ms mon client mode = crc
auth client required = none
keyring = $dir/keyring
rgw frontends = beast endpoint=$address:$port
rgw data = $dir/rgw
rgw enable usage log = false
rgw verify ssl = false
CONF
conf=(-c "$dir/ceph.conf")
ceph-authtool --create-keyring "$dir/keyring" --gen-key -n client.rgw >/dev/null
ceph-authtool "$dir/keyring" --gen-key -n client.admin >/dev/null
monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port,v1:127.0.0.1:$old_mon_port]" "$dir/monmap" >/dev/null
ceph-mon "${conf[@]}" -i a --mkfs --monmap "$dir/monmap" >/dev/null 2>&1
ceph-mon "${conf[@]}" -i a
osd=$(cat /proc/sys/kernel/random/uuid)
ceph "${conf[@]}" osd new "$osd" >/dev/null
ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$osd" >/dev/null 2>&1
ceph "${conf[@]}" osd crush add osd.0 1.0 host=h root=default >/dev/null 2>&1 || true
ceph-osd "${conf[@]}" -i 0
ceph-mgr "${conf[@]}" -i x
timeout 60 bash -c "until ceph -c '$dir/ceph.conf' osd stat 2>/dev/null | grep -q '1 up'; do sleep 0.2; done"
radosgw "${conf[@]}" -n client.rgw --auth-client-required=none
timeout 90 bash -c "until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do sleep 0.2; done"
radosgw-admin "${conf[@]}" -n client.rgw user create --uid t --display-name t --access-key capstan --secret-key capstan-secret >/dev/null
