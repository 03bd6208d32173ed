#!/bin/sh
# Machines to try `rbee hive add` with, on this machine: network namespaces, each with an SSH server, a user without any
# rights, a home directory of its own, and no route to anywhere. Needs root, and the Debian packages iproute2, util-linux and
# openssh-server.
#
#   machines.sh up [COUNT]     makes them (3, at most 200): bee-1, bee-2, …
#   machines.sh cut NAME       takes its link away
#   machines.sh heal NAME      gives it back
#   machines.sh reboot NAME    ends all of its processes, and starts its SSH server again
#   machines.sh halt NAME      ends all of its processes
#   machines.sh run NAME CMD…  runs a command there as root
#   machines.sh down           removes everything
#
# `up` prints the path of an ssh_config with these names. Variables:
#   MACHINES_DIR     where the keys and homes are (/tmp/rbee-machines)
#   MACHINES_SUBNET  the first two numbers of the addresses (198.18, a range for tests)
#   MACHINES_SHELL   the login shell of the user (/bin/sh)
#   MACHINES_HOME    options of a tmpfs for the home directory, such as size=64m or noexec; by default it is on the disk
#   MACHINES_SSHD    more lines of sshd_config, separated by ;

set -eu

dir=${MACHINES_DIR:-/tmp/rbee-machines}
subnet=${MACHINES_SUBNET:-198.18}
user=bee
id=7001
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || {
	echo "sshd is missing; install it (Debian: apt-get install openssh-server)" >&2
	exit 1
}

die() {
	echo "machines.sh: $*" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || die "network namespaces need root"
for tool in ip unshare nsenter ssh-keygen; do
	command -v "$tool" >/dev/null || die "$tool is missing; install iproute2, util-linux and openssh-server"
done

# The names of a machine's parts, by its number. Names of links have at most 15 characters.
tag=$(printf '%s' "$dir" | cksum | cut -d' ' -f1)
namespace() { echo "rbee-$tag-$1"; }
outer() { printf 'rb%x-%s' $((tag % 65536)) "$1"; }
address() { echo "$subnet.$1.2"; }

number() {
	case $1 in
	bee-[0-9] | bee-[0-9][0-9] | bee-[0-9][0-9][0-9]) n=${1#bee-} ;;
	*) die "$1 is no machine; they are named bee-1, bee-2, …" ;;
	esac
	[ -d "$dir/$1" ] || die "there is no $1; \`machines.sh up\` makes machines"
}

keys() {
	mkdir -p "$dir"
	chmod 755 "$dir"
	[ -f "$dir/id" ] || ssh-keygen -q -t ed25519 -N '' -C machines -f "$dir/id"
	# The tables of users that only the machines see.
	printf 'root:x:0:0::/root:/bin/sh\nsshd:x:74:74::/run/sshd:/bin/false\n%s:x:%s:%s::/home/%s:%s\n' \
		$user $id $id $user "${MACHINES_SHELL:-/bin/sh}" >"$dir/passwd"
	printf 'root:*:1::::::\nsshd:*:1::::::\n%s:*:1::::::\n' $user >"$dir/shadow"
	printf 'root:x:0:\nsshd:x:74:\n%s:x:%s:\n' $user $id >"$dir/group"
	: >"$dir/known_hosts"
	: >"$dir/ssh_config"
	# Whoever has called `sudo` uses the machines, without root.
	[ -z "${SUDO_USER:-}" ] || chown "$SUDO_USER" "$dir/id" "$dir/known_hosts"
}

make() {
	n=$1
	m=$dir/bee-$n
	mkdir -p "$m/home/.ssh"
	cp "$dir/id.pub" "$m/home/.ssh/authorized_keys"
	chmod 700 "$m/home" "$m/home/.ssh"
	chown -R $id:$id "$m/home"
	[ -f "$m/host_key" ] || ssh-keygen -q -t ed25519 -N '' -C "bee-$n" -f "$m/host_key"
	{
		printf '%s' "${MACHINES_SSHD:-}" | tr ';' '\n'
		printf '\nListenAddress %s\nHostKey %s\nUsePAM no\nPasswordAuthentication no\nPidFile none\nMaxStartups 200\n' \
			"$(address "$n")" "$m/host_key"
	} >"$m/sshd_config"
	ip netns add "$(namespace "$n")"
	ip link add "$(outer "$n")" type veth peer name eth0 netns "$(namespace "$n")"
	ip address add "$subnet.$n.1/30" dev "$(outer "$n")"
	ip link set "$(outer "$n")" up
	# Without a link, nothing goes out by the default route instead.
	ip route replace blackhole "$subnet.$n.0/30" metric 9999
	ip -n "$(namespace "$n")" address add "$(address "$n")/30" dev eth0
	ip -n "$(namespace "$n")" link set lo up
	ip -n "$(namespace "$n")" link set eth0 up
	printf '%s %s\n' "$(address "$n")" "$(cut -d' ' -f1,2 "$m/host_key.pub")" >>"$dir/known_hosts"
	cat >>"$dir/ssh_config" <<-CONFIG
		Host bee-$n
		  HostName $(address "$n")
		  User $user
		  IdentityFile $dir/id
		  IdentitiesOnly yes
		  UserKnownHostsFile $dir/known_hosts
		  GlobalKnownHostsFile none
	CONFIG
	start "$n"
}

# Starts the machine: its first process is the SSH server, and its end is the end of all others.
start() {
	m=$dir/bee-$1
	home="mount --bind $m/home /home/$user"
	if [ -n "${MACHINES_HOME:-}" ]; then
		home="mount -t tmpfs -o mode=700,uid=$id,gid=$id,$MACHINES_HOME tmpfs /home/$user && cp -a $m/home/.ssh /home/$user/"
	fi
	ip netns exec "$(namespace "$1")" unshare --mount --pid --uts --ipc --fork --kill-child sh -c "
		set -e
		mount --make-rprivate /
		mount -t proc proc /proc
		hostname bee-$1
		for file in passwd shadow group; do
			mount --bind $dir/\$file /etc/\$file
		done
		mount -t tmpfs tmpfs /run
		mkdir -p /run/sshd
		# A home directory in a place where this machine has none.
		mount -t tmpfs -o mode=755 tmpfs /home
		mkdir /home/$user
		$home
		for place in /var/tmp /dev/shm; do
			mount -t tmpfs -o mode=1777 tmpfs \$place
		done
		exec $sshd -D -E $m/log -f $m/sshd_config
	" </dev/null >>"$m/output" 2>&1 &
	echo $! >"$m/pid"
	tries=0
	until grep -q 'Server listening' "$m/log" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || die "the SSH server of bee-$1 does not start: $(cat "$m/output" "$m/log" 2>/dev/null)"
		sleep 0.05
	done
}

# The first process of the machine, as this machine numbers it.
init() {
	pgrep -P "$(cat "$dir/bee-$1/pid")" | head -n 1
}

halt() {
	[ -f "$dir/bee-$1/pid" ] || return 0
	first=$(init "$1") || true
	[ -z "$first" ] || kill -9 "$first" 2>/dev/null || true
	kill -9 "$(cat "$dir/bee-$1/pid")" 2>/dev/null || true
	rm -f "$dir/bee-$1/pid" "$dir/bee-$1/log"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
up)
	count=${1:-3}
	[ ! -e "$dir/ssh_config" ] || die "there are machines in $dir already; \`machines.sh down\` removes them"
	[ "$count" -ge 1 ] && [ "$count" -le 200 ] || die "COUNT is $count; allowed is 1 to 200"
	keys
	i=1
	while [ "$i" -le "$count" ]; do
		make "$i"
		i=$((i + 1))
	done
	echo "$dir/ssh_config"
	;;
cut)
	number "$1"
	# From inside: the other end then looks as if a cable were pulled.
	ip -n "$(namespace "$n")" link set eth0 down
	;;
heal)
	number "$1"
	ip -n "$(namespace "$n")" link set eth0 up
	;;
reboot)
	number "$1"
	halt "$n"
	start "$n"
	;;
halt)
	number "$1"
	halt "$n"
	;;
run)
	number "$1"
	shift
	exec nsenter --all --target "$(init "$n")" -- "$@"
	;;
down)
	for m in "$dir"/bee-*; do
		[ -d "$m" ] || continue
		n=${m##*/bee-}
		halt "$n"
		ip link delete "$(outer "$n")" 2>/dev/null || true
		ip route delete blackhole "$subnet.$n.0/30" metric 9999 2>/dev/null || true
		ip netns delete "$(namespace "$n")" 2>/dev/null || true
	done
	rm -rf "$dir"
	;;
*)
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
	[ -z "$command" ] || exit 2
	;;
esac
