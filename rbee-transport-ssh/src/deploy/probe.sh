# Facts about this machine. Nothing is left on it.
say step system
say os "$(uname -s)"
say kernel "$(uname -r)"
say machine "$(uname -m)"
say name "$(uname -n)"
uid=$(id -u)
say user_id "$uid"
say user "$(id -un 2>/dev/null)"
say home "$HOME"
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
set -f
# shellcheck disable=SC2046
set -- $(limited 5 ldd --version 2>&1)
set +f
say ldd "$1 $2 $3 $4 $5"
for f in /lib/ld-*.so* /lib64/ld-*.so*; do
	[ -e "$f" ] && say loader "$f"
done
if [ -r /proc/meminfo ]; then
	while read -r key value rest; do
		case $key in
		MemTotal:) say memory_kib "$value" ;;
		MemAvailable:) say available_kib "$value" ;;
		esac
	done </proc/meminfo
fi
say cpus "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
for tool in gzip sha256sum shasum openssl timeout setsid; do
	has $tool && say tool $tool
done

# `free`: the fourth column of `df`, counted from the one with the percent sign, because a device can have blanks.
fourth_of_df() {
	free=
	set -f
	# shellcheck disable=SC2046
	set -- $(limited 5 df "$@" 2>/dev/null | tail -n 1)
	set +f
	before=
	while [ $# -gt 0 ]; do
		case $1 in
		*%) free=$before ;;
		esac
		before=$1
		shift
	done
}

file=
trap '[ -n "$file" ] && rm -f "$file"; exit 1' HUP INT TERM

# Looks at a directory: its kind, and its path.
place() {
	kind=$1
	p=$2
	say place "$kind"
	say path "$p"
	case $p in
	/*) ;;
	*)
		say refused 'it is not an absolute path'
		return
		;;
	esac
	case $kind in
	data | cache)
		if [ ! -d "$HOME" ]; then
			say refused "the home directory $HOME does not exist"
			return
		fi
		;;
	esac
	if [ -h "$p" ]; then
		say link 1
	fi
	# The nearest directory that exists has the file system and the permissions.
	d=$p
	while [ ! -e "$d" ] && [ ! -h "$d" ]; do
		d=${d%/*}
		[ -n "$d" ] || d=/
	done
	if [ ! -d "$d" ]; then
		say refused "$d is not a directory"
		return
	fi
	if [ "$d" = "$p" ]; then
		look_at "$p"
		say mode "$mode"
		say owner "$owner"
	fi
	# `[ -w ]` and `[ -x ]` say yes on file systems that are read-only or run no programs. Only a test tells.
	file=$d/.rbee-probe-$m
	# Without an interpreter line, so that the answer does not depend on where a shell is.
	failure=$( (
		set -C
		printf 'exit 7\n' >"$file"
	) 2>&1)
	written=$?
	if [ $written = 0 ]; then
		chmod 700 "$file"
		"$file" >/dev/null 2>&1
		say runs $?
	else
		set -f
		# shellcheck disable=SC2086
		set -- $failure
		set +f
		say write_error "$*"
	fi
	rm -f "$file" 2>/dev/null
	file=
	fourth_of_df -Pk "$d"
	say free_kib "$free"
	fourth_of_df -Pi "$d"
	[ -n "$free" ] || fourth_of_df -i "$d"
	say free_inodes "$free"
	count=0
	for v in "$p"/versions/*/files; do
		[ -f "$v" ] && [ $count -lt 50 ] || continue
		count=$((count + 1))
		v=${v%/files}
		say version "${v##*/}"
		while read -r hash bytes name; do
			measure "$v/$name"
			[ -x "$v/$name" ] || size=
			say file "$hash $bytes ${size:-0} $name"
		done <"$v/files"
	done
	count=0
	for h in "$p"/hives/*/; do
		[ -d "$h" ] && [ $count -lt 50 ] || continue
		count=$((count + 1))
		h=${h%/}
		say hive "${h##*/}"
	done
}
absolute_or() {
	case $1 in
	/*) base=$1 ;;
	*) base=$2 ;;
	esac
}
say step places
if [ -n "$given" ]; then
	case $given in
	'~') given=$HOME ;;
	'~/'*) given=$HOME/${given#'~/'} ;;
	esac
	place given "$given"
else
	absolute_or "$XDG_DATA_HOME" "$HOME/.local/share"
	place data "$base/rbee"
	absolute_or "$XDG_CACHE_HOME" "$HOME/.cache"
	place cache "$base/rbee"
	place var_tmp "/var/tmp/rbee-$uid"
	absolute_or "$XDG_RUNTIME_DIR" "/run/user/$uid"
	[ -d "$base" ] && place runtime "$base/rbee"
	[ -d /dev/shm ] && place shm "/dev/shm/rbee-$uid"
fi

say step session
# Without an argument it shows the manager's settings.
say kill "$(limited 5 loginctl show-session -p KillUserProcesses 2>/dev/null)"
say linger "$(limited 5 loginctl show-user "$uid" -p Linger 2>/dev/null)"

say step devices
for f in /dev/nvidia[0-9]*; do
	[ -e "$f" ] || continue
	if [ -r "$f" ] && [ -w "$f" ]; then say nvidia_device "$f"; else say closed_device "$f"; fi
done
if [ -e /dev/kfd ]; then
	if [ -r /dev/kfd ] && [ -w /dev/kfd ]; then say amd_device /dev/kfd; else say closed_device /dev/kfd; fi
fi
if has ldconfig; then
	say library_cache 1
	ldconfig -p 2>/dev/null | while read -r name rest; do
		case $name in
		libcuda.* | libcudart.* | libcublas* | libcurand.* | libcudnn* | libnvrtc* | libnccl.*) say library "$name" ;;
		esac
	done
fi
# The dynamic linker looks here too.
set -f
before=$IFS
IFS=:
# shellcheck disable=SC2086
set -- $LD_LIBRARY_PATH
IFS=$before
set +f
for d in "$@"; do
	for f in "$d"/libcu*.so* "$d"/libnv*.so* "$d"/libnccl.so*; do
		[ -e "$f" ] && say library "${f##*/}"
	done
done
# The last, because a broken driver can make it hang.
say step nvidia-smi
if has nvidia-smi; then
	limited 10 nvidia-smi --query-gpu=driver_version,memory.total,name --format=csv,noheader,nounits 2>&1 |
		while read -r line; do say gpu "$line"; done
fi
say end 1
