read x
for i in {1..15}; do a[$i]=x$i; done
f() { local y=$1; [ $y -gt 0 ] && f $((y - 1)); z="$z-$y"; }
f 6
case ${a[*]} in *x1*) c=${a[*]//x/yy};; esac
declare -A m
for k in p q r s; do m[$k]=$k$k; done
printf -v d '%s:' "${!m[@]}"
while read l; do e+=$l; done <<< "$c"
[[ $d =~ (p).* ]] && g=${BASH_REMATCH[1]}
trap 'q=1' USR1
kill -USR1 $$
eval 'h() { local -a v=("${@:2}"); echo "${v[-1]}" "${1^^}"; }'
h a b c
echo "$d $e $g"
