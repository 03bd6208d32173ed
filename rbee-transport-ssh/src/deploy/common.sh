# The functions of the scripts that look at a machine or change files on it.
LC_ALL=C
export LC_ALL
umask 077
PATH=${PATH:-/usr/bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/lib/wsl/lib:/run/current-system/sw/bin
has() {
	command -v "$1" >/dev/null 2>&1
}
# Runs a command for at most so many seconds, if this machine can limit it.
limited() {
	if has timeout; then
		timeout "$@"
	else
		shift
		"$@"
	fi
}
# `mode` and `owner` of a directory that exists.
look_at() {
	set -f
	# shellcheck disable=SC2046
	set -- $(ls -ldn "$1/" 2>/dev/null)
	set +f
	mode=$1
	owner=$3
}
# `size` of a file, and empty if there is none.
measure() {
	set -f
	# shellcheck disable=SC2046
	set -- $(ls -lnL "$1" 2>/dev/null)
	set +f
	size=$5
}
# `sum`: the SHA-256 of a file, and empty if this machine has no program for it.
hash_of() {
	if has sha256sum; then
		sum=$(sha256sum <"$1" 2>/dev/null)
	elif has shasum; then
		sum=$(shasum -a 256 <"$1" 2>/dev/null)
	elif has openssl; then
		sum=$(openssl dgst -sha256 <"$1" 2>/dev/null)
		sum=${sum##* }
	else
		sum=
	fi
	sum=${sum%% *}
}
