state=$root/hives/$hive
others=
for h in "$root"/hives/*/; do
	h=${h%/}
	[ -d "$h" ] && [ "$h" != "$state" ] || continue
	# One that was removed has left its models at most.
	[ -n "$(find "$h" -mindepth 1 -maxdepth 1 ! -name models 2>/dev/null | head -n 1)" ] && others=${h##*/}
done
if [ -z "$others" ]; then
	find_process "$root/versions"
	if [ -n "$process" ]; then
		say in_use "$process"
		say end 1
		exit 0
	fi
fi
for f in "$state"/* "$state"/.[!.]*; do
	if [ "$f" = "$state/models" ] && [ "$models" != 1 ] && [ -d "$f" ]; then
		# A store without models has files for locks only.
		if [ -n "$(find "$f" -type f ! -path "$f/locks/*" 2>/dev/null | head -n 1)" ]; then
			say kept "the models were not to be removed=$f"
			continue
		fi
	fi
	drop "$f"
done
rmdir "$state" 2>/dev/null && say removed "0 $state"
if [ -z "$others" ]; then
	drop "$root/versions"
elif [ -d "$root/versions" ]; then
	say kept "the hive $others may use it=$root/versions"
fi
rmdir "$root/hives" 2>/dev/null && say removed "0 $root/hives"
rmdir "$root" 2>/dev/null && say removed "0 $root"
say end 1
