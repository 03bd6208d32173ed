v=$root/versions
count=0
for h in "$root"/hives/*/; do
	[ -d "$h" ] && count=$((count + 1))
done
for d in "$v"/*/; do
	d=${d%/}
	[ -d "$d" ] && [ ! -h "$d" ] || continue
	case $keep in
	*"/${d##*/}/"*) continue ;;
	esac
	if [ $count -gt 1 ]; then
		say kept "hives of other machines may use it=$d"
		continue
	fi
	find_process "$d"
	if [ -n "$process" ]; then
		say kept "process $process uses it=$d"
		continue
	fi
	young=$(find "$d" -prune -mmin -10 2>/dev/null)
	if [ $? != 0 ] || [ -n "$young" ]; then
		say kept "it is new=$d"
		continue
	fi
	drop "$d"
done
say end 1
