say begin 1
state=$root/hives/$hive
versions=$(cd "$root/versions" 2>/dev/null && pwd -P)
# `pid`: the process of a record, if it runs one of the programs here; else empty.
read_record() {
	pid=
	text=$(cat "$1" 2>/dev/null)
	case $text in
	*'"pid"'*) ;;
	*) return 0 ;;
	esac
	text=${text#*'"pid"'}
	text=${text#*:}
	text=${text# }
	number=${text%%[!0-9]*}
	[ -n "$number" ] && [ -n "$versions" ] || return 0
	case $(ls -l "/proc/$number/exe" 2>/dev/null) in
	*"-> $versions/"*) pid=$number ;;
	esac
}
# `alive`: the processes of the hive and its workers.
look() {
	alive=
	for f in "$state/hive.json" "$state"/workers/*.json; do
		[ -f "$f" ] || continue
		read_record "$f"
		[ -z "$pid" ] || alive="$alive $pid"
	done
}
# The hive stops its workers at this signal, and ends.
read_record "$state/hive.json"
[ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null
tries=$tenths
look
first=$alive
while [ -n "$alive" ] && [ "$tries" -gt 0 ]; do
	if sleep 0.1 2>/dev/null; then
		tries=$((tries - 1))
	else
		sleep 1
		tries=$((tries - 10))
	fi
	look
done
# shellcheck disable=SC2086
[ -z "$alive" ] || kill -KILL $alive 2>/dev/null
say processes "$first"
say killed "$alive"
say end 1
