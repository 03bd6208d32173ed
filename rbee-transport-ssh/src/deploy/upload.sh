v=$root/versions
new=$v/$new_name
final=$v/$final_name
# `line`: a text in one line without control characters.
one_line() {
	set -f
	# shellcheck disable=SC2086
	set -- $1
	set +f
	line=$(printf '%s' "$*" | tr -d '\000-\037\177')
}
# Removes the upload and says why: the kind of failure, the thing, and the reason.
fail() {
	rm -rf "$new"
	one_line "$3"
	say thing "$2"
	say reason "$line"
	say fail "$1"
	exit 1
}
prepare() {
	failure=$(mkdir -p "$root" 2>&1) || fail write "$root" "$failure"
	# Somebody else may have created it since the machine was looked at.
	look_at "$root"
	[ "$owner" = "$(id -u)" ] || fail write "$root" "it belongs to user $owner"
	if [ "$shared" = 1 ]; then
		case $mode in
		drwx------*) ;;
		*) fail write "$root" "other users can use it ($mode)" ;;
		esac
		[ ! -h "$root" ] || fail write "$root" 'it is a symbolic link'
	fi
	failure=$( (mkdir -p "$v" && chmod 700 "$v") 2>&1) || fail write "$v" "$failure"
	# What was left by uploads that broke off. Others may be in progress, and write something from time to time.
	for d in "$v"/.upload-* "$v"/.old-*; do
		[ -d "$d" ] || continue
		case ${d##*/} in
		.upload-"$uploader"-*) rm -rf "$d" ;;
		*) young=$(find "$d" -mmin -60 2>/dev/null) && [ -z "$young" ] && rm -rf "$d" ;;
		esac
	done
	failure=$(mkdir "$new" 2>&1) || fail write "$new" "$failure"
}
# Returns true if the file `$1` has `$2` bytes and the hash `$3`.
is_intact() {
	measure "$1"
	[ "${size:-0}" -eq "$2" ] || return 1
	hash_of "$1"
	[ -z "$sum" ] || [ "$sum" = "$3" ]
}
# Takes the file `$1` of another version: its name, size and hash are `$2`, `$3` and `$4`.
reuse() {
	if ! ln "$1" "$new/$2" 2>/dev/null && ! cp "$1" "$new/$2" 2>/dev/null || ! is_intact "$new/$2" "$3" "$4"; then
		rm -f "$new/$2"
		say not_reused "$2"
	fi
}
# Writes the input to a file: its name, size, hash, and the command that unpacks it.
receive() {
	say ready 1
	failure=$( ($4 >"$new/$1") 2>&1) || fail write "$new/$1" "$failure"
	if ! is_intact "$new/$1" "$2" "$3"; then
		fail damaged "$1" "$2 bytes were sent, and ${size:-0} bytes${sum:+ with the SHA-256 $sum} are there"
	fi
	chmod 700 "$new/$1"
}
# Gives the file `$1` the name `$2` too.
also() {
	failure=$( (ln "$new/$1" "$new/$2" 2>/dev/null || cp "$new/$1" "$new/$2") 2>&1) || fail write "$new/$2" "$failure"
}
# Runs a program once.
test_run() {
	output=$(limited 30 "$new/$1" --version </dev/null 2>&1)
	status=$?
	[ $status = 0 ] || fail run "$1" "exit status $status: $output"
	one_line "$output"
	case " $line " in
	*" $version "*) ;;
	*) fail version "$1" "$output" ;;
	esac
}
# Gives the directory its name. A directory with this name may appear at any time, from another upload of the same
# files, and then `mv` moves this one into it.
finish() {
	failure=$( (printf '%s\n' "$files" >"$new/files") 2>&1) || fail write "$new/files" "$failure"
	old=$v/.old-$m
	if [ "$damaged" = 1 ] && [ -d "$final" ]; then
		failure=$(mv "$final" "$old" 2>&1) || fail write "$final" "$failure"
	fi
	failure=$(mv "$new" "$final" 2>&1) || fail write "$final" "$failure"
	rm -rf "${final:?}/$new_name" "$old"
}
