# Every script begins with this. It runs in any POSIX shell: no `local`, no arrays, no `[[`.
# The words `a` and `b` are random. They are apart in the script, so that a machine that sends the script back does not
# seem to answer.
m=$a$b
nl='
'
# A line of the answer: a key and a value.
say() {
	case $2 in
	*"$nl"*) printf '%s %s!\n' "$m" "$1" ;;
	*) printf '%s %s=%s\n' "$m" "$1" "$2" ;;
	esac
}
say begin 1
