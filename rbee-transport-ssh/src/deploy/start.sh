hive=$directory/rbee-hive
state=$root/hives/$id
# The arguments for the hive are the positional parameters. Its lines for people come before the one for programs.
output=$("$hive" --id "$id" --state-dir "$state" --lease "$lease" --detach -- \
	--models-dir "$state/models" "$@" 2>&1 </dev/null) || {
	say status "$?"
	say reason "$(printf '%s' "$output" | tail -c 2000 | tr '\n\t' '  ' | tr -d '\000-\037\177')"
	say fail start
	exit 1
}
say hive "${output##*"$nl"}"
if [ "$relay" = 1 ]; then
	say ready 1
	exec "$hive" --state-dir "$state" --relay
fi
say end 1
