# shellcheck shell=dash disable=SC2046,SC2154 # lists are split on purpose; wine_start sets NAME_pid
# wine.sh: checks of gamer's wine hook with real Wine. guest.sh and test.sh source it and
# bring fail, is, wait_for, watch (a gamer that observes, as $G, its log $WORK/gamer.log; they end it), and
#   GAMER  the binary    WORK  a folder of this run
#   WINES  a folder with one root per version of Wine    PRIO  prio.exe
#
# As in a container, each Wine sees a root of its own: the path of its ntdll.so means
# nothing outside. /tmp of that root lies in memory, so nothing is left behind.

# wine_start VERSION NAME [COMMAND]: prio.exe as NAME.exe under that Wine, its pid as
# $NAME_pid; it obeys COMMAND as soon as it can. What it prints lands in $WORK/NAME.out.
wine_start() {
	local version=$1 name=$2
	trap wine_end EXIT
	rm -f "$WORK/$name".*
	mkfifo "$WORK/$name.in"
	: >"$WORK/$name.out"
	[ $# = 2 ] || echo "$3" >"$WORK/$name.in" &
	# Its stdin stays open as long as this does.
	WINE_CHECK=$WORK sleep 1000 <>"$WORK/$name.in" &
	# shellcheck disable=SC2016
	WINE_CHECK=$WORK WINEDEBUG=-all WINEPREFIX=/tmp/prefix HOME=/tmp env -u TMPDIR unshare -m sh -c '
		mount -o bind "$0" "$0" && cd "$0" && mount -o rbind /dev dev && mount -t proc proc proc &&
			mount -t tmpfs tmp tmp || exit
		mkdir -p tmp/prefix/dosdevices tmp/prefix/drive_c/windows/system32
		ln -s ../drive_c tmp/prefix/dosdevices/c:
		ln -s / tmp/prefix/dosdevices/z:
		cp usr/lib/x86_64-linux-gnu/wine/x86_64-windows/*.dll tmp/prefix/drive_c/windows/system32/
		cp "$1" "tmp/$2.exe"
		[ "$2" = services ] || export GAMER_GAME=1 # it draws nothing, so it has to say so
		mount -o move . / && exec chroot . /usr/lib/wine/wine64 "/tmp/$2.exe"
	' "$WINES/$version" "$PRIO" "$name" <"$WORK/$name.in" >"$WORK/$name.out" 2>"$WORK/$name.err" &
	eval "${name}_pid=$!"
	wait_for 60 said "$name" ready 1 || fail "$name.exe: $(cat "$WORK/$name.out" "$WORK/$name.err")"
}
# said NAME LINE TIMES
said() { [ "$(tr -d '\r' <"$WORK/$1.out" | grep -cx "$2")" -ge "$3" ]; }
# tell NAME COMMAND: has been obeyed on return
tell() {
	local times
	times=$(tr -d '\r' <"$WORK/$1.out" | grep -cx "$2")
	echo "$2" >"$WORK/$1.in"
	wait_for 20 said "$1" "$2" $((times + 1)) || fail "$1.exe does not obey '$2': $(tail -n 1 "$WORK/$1.out")"
}
# Every process of this check that belongs to Wine or feeds it; with a name, those alone.
wine_pids() {
	local p
	for p in $(grep -lsxz "WINE_CHECK=$WORK" /proc/[0-9]*/environ); do
		p=${p%/environ}
		[ $# = 0 ] || [ "$(cat "$p/comm")" = "$1" ] || continue
		echo "${p#/proc/}"
	done
}
wine_end() { kill -KILL $(wine_pids) ${G:-} 2>/dev/null; }

thread_of() { tr -d '\r' <"$WORK/$1.out" | sed -n "s/^thread \([0-9]*\) $2\$/\1/p"; }
# The kernel's word on it: uprobes that gamer's children hold. (The distribution's Wine may have some.)
uprobes() {
	local p
	for p in $(cat "/proc/$G/task/$G/children" 2>/dev/null); do
		cat "/proc/$p"/fdinfo/* 2>/dev/null
	done | grep -c '^link_type:.*uprobe'
}
uprobes_are() { [ "$(uprobes)" = "$1" ]; }

# otherwise NAME THREAD:ROLE,SOURCE,CONFIDENCE...: what status says otherwise, ROLE|ROLE where
# both will do; THREAD alone means that Wine is not its source.
otherwise() {
	local name=$1; shift
	"$GAMER" status | awk -v wants="$*" '
		FNR == NR { sub("\r", ""); if ($1 == "thread") tid[$3] = $2; next }
		$1 == "thread" { got[$2] = $5 "," $6 "," $7 }
		END {
			for (n = split(wants, want, " "); n; n--) {
				split(want[n], w, ":")
				g = got[tid[w[1]]]
				if (w[2] == "" ? g ~ /,wine,/ : g !~ "^(" w[2] ")$")
					printf "%s is %s, not %s; ", w[1], g, w[2] == "" ? "without Wine" : w[2]
			}
		}' "$WORK/$name.out" -
}
agree() { [ -z "$(otherwise "$@")" ]; }
roles() { wait_for 15 agree "$@" || fail "$1.exe: $(otherwise "$@")$(gamer_says)"; }
# What each thread is after "set". Windows has one priority for rendering and for input; the
# pattern of `polling` tells which.
ROLES="critical:render,wine,97 highest:render,wine,95 raised:render,wine,95 polling:input,wine,95
	above:physics,wine,95 below:background,wine,95 lowest:background,wine,95 idle:background,wine,95
	normal setter victim main"

# found VERSION NAME: a game in that Wine is found, and its probes are on.
found() {
	local before
	before=$(uprobes)
	wine_start "$1" "$2"
	wait_for 20 game_is "$(eval "echo \$${2}_pid")" || fail "is not the game: $(gamer_says)"
	wait_for 10 uprobes_are $((before + 2)) || fail "$(uprobes) uprobes, $before before the game: $(gamer_says)"
}
# The same row in JSON; in a guest, kept for test/judge.py.
json_says() { # NAME THREAD WANTED...
	local row want
	"$GAMER" status --json >"$WORK/status.json"
	[ ! -d /out ] || cp "$WORK/status.json" /out/wine.json
	row=$(tr -d ' \n' <"$WORK/status.json" | tr '{' '\n' | grep "^\"tid\":$(thread_of "$1" "$2"),")
	shift 2
	for want; do case $row in *"$want"*) ;; *) fail "JSON has no $want in '$row'" ;; esac; done
}
gamer_says() { "$GAMER" status | grep -E '^game|^hook wine' | tr '\n' ' '; tail -n 1 "$WORK/gamer.log"; }

wine_roles() { : "Wine 8.0: a game is found; each priority gives its role, NORMAL and other threads' handles none"
	watch
	found 8.0 title
	tell title set
	roles title $ROLES
	json_says title critical "\"pid\":$title_pid," '"class":"game"' '"role":"render"' '"source":"wine"' '"confidence":97'
	tell title normal
	roles title raised
	tell title highest
	roles title raised:render,wine,95
}
wine_sysv() { : "Wine 10.0, which has the other calling convention: the same"
	watch
	found 10.0 title
	tell title set
	roles title $ROLES
}
wine_class() { : "TIME_CRITICAL in a realtime process is audio, whichever is set first; in a high one it is not"
	watch
	found 8.0 title
	tell title class-realtime
	tell title set
	roles title critical:audio,wine,99 highest:render,wine,95
	tell title class-high
	roles title critical:render,wine,97
	tell title class-realtime
	roles title critical:audio,wine,99 highest:render,wine,95
}
wine_named() { : "--game PID: that process alone; what another program asks for in the same Wine gives no role"
	wine_start 8.0 title
	wine_start 8.0 other
	watch --game "$other_pid"
	wait_for 20 game_is "$other_pid" || fail "is not the game: $(gamer_says)"
	tell title set
	tell other set
	roles other $ROLES
	roles title critical highest raised above below lowest idle
}
wine_again() { : "a killed game is no game any more and its probes go; started again it is found again"
	local before
	watch
	before=$(uprobes)
	found 8.0 title
	tell title set
	roles title highest:render,wine,95
	kill -KILL "$title_pid" $(wine_pids wineserver)
	wait_for 20 game_is none || fail "still: $(gamer_says)"
	wait_for 10 uprobes_are "$before" || fail "$(uprobes) uprobes without a game, $before at first"
	found 10.0 title
	tell title set
	roles title highest:render,wine,95
}
wine_next() { : "what another program asks for while one is the game counts once it becomes the game"
	watch
	found 8.0 title
	wine_start 8.0 other
	tell other set
	roles other critical highest raised above below lowest idle
	kill -KILL "$title_pid"
	wait_for 20 game_is "$other_pid" || fail "is not the game: $(gamer_says)"
	roles other $ROLES
}
wine_replaced() { : "an upgrade replaced Wine under the game: what it really runs is hooked, and the next game's too"
	mkdir -p "$WORK/wines"
	cp -r "$WINES/8.0" "$WORK/wines/"
	WINES=$WORK/wines
	wine_start 8.0 title
	(cd "$WINES/8.0/usr/lib/x86_64-linux-gnu/wine/x86_64-unix" && cp ntdll.so new && mv new ntdll.so)
	watch
	wait_for 20 game_is "$title_pid" || fail "is not the game: $(gamer_says)"
	wait_for 10 uprobes_are 2 || fail "$(uprobes) uprobes: $(gamer_says)"
	tell title set
	roles title $ROLES
	kill -KILL "$title_pid"
	wait_for 20 game_is none || fail "still: $(gamer_says)"
	wait_for 10 uprobes_are 0 || fail "$(uprobes) uprobes without a game: $(gamer_says)"
	found 8.0 other
	tell other set
	roles other $ROLES
}
wine_early() { : "where a helper of Wine runs already, no priority is set too early for us"
	local before
	watch
	before=$(uprobes)
	wine_start 8.0 services
	wait_for 10 uprobes_are $((before + 2)) || fail "$(uprobes) uprobes, $before before: $(gamer_says)"
	game_is none || fail "a helper is the game: $(gamer_says)"
	wine_start 8.0 title set
	wait_for 20 said title set 1 || fail "title.exe does not obey"
	wait_for 20 game_is "$title_pid" || fail "is not the game: $(gamer_says)"
	roles title $ROLES
}
