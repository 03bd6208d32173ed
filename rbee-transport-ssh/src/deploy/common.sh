# Every script begins with this. It runs in any POSIX shell: no `local`, no arrays, no `[[`.
# The words `a` and `b` are random. They are apart in the script, so that a machine that sends the script back does not
# seem to answer.
m=$a$b
LC_ALL=C
export LC_ALL
umask 077
PATH=${PATH:-/usr/bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/lib/wsl/lib:/run/current-system/sw/bin
nl='
'
# A line of the answer: a key and a value.
say() {
	case $2 in
	*"$nl"*) printf '%s %s!\n' "$m" "$1" ;;
	*) printf '%s %s=%s\n' "$m" "$1" "$2" ;;
	esac
}
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
# `size` of a file, and empty if it cannot be read.
measure() {
	set -f
	# shellcheck disable=SC2046
	set -- $(wc -c 2>/dev/null <"$1")
	set +f
	size=$1
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
say begin 1
