# `running`: the programs of this user's processes, as far as they can be seen.
running=$(ls -l /proc/[0-9]*/exe 2>/dev/null)
# `process`: a process that runs a program in the directory `$1`, or empty.
find_process() {
	process=
	physical=$(cd "$1" 2>/dev/null && pwd -P) || return 0
	case $running in
	*"-> $physical/"*) ;;
	*) return 0 ;;
	esac
	before=${running%%"-> $physical/"*}
	before=${before##*/proc/}
	process=${before%%/*}
}
# Removes a path and says so, with its size.
drop() {
	[ -e "$1" ] || [ -h "$1" ] || return 0
	set -f
	# shellcheck disable=SC2046
	set -- "$1" $(du -sk "$1" 2>/dev/null)
	set +f
	kib=${2:-0}
	failure=$(rm -rf "$1" 2>&1)
	if [ -e "$1" ] || [ -h "$1" ]; then
		say failed_path "$1"
		say failed_reason "$failure"
	else
		say removed "$kib $1"
	fi
}
