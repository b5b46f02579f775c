/*
 * game: which of these programs is a game, and which of two that run. Calls what gamer.c decides by,
 * with what /proc says of each program and a count of its frames, and prints what is wrong. Each program
 * comes under its own name and under one drawn at random: only where `named` says so may the name decide.
 *
 * Start reading at main().
 */
#include "gamer.c"

enum does { NOTHING = 0, STEADY = 1, STARVED = 2, DEMAND = 4, VIDEO = 8, INPUT = 16, SOUND = 32, STALLS = 64 };

struct program {
	const char *comm, *exe, *cgroup;	/* the last: below app.slice unless it begins with '/' */
	u32 does;
	bool game;
	const char *env[3], *arg;
	bool child;		/* some ancestor was started by a launcher */
	bool parts;		/* its children are parts of its program */
	bool category;		/* its application says that it is a game */
	bool flips;		/* pages, for others that it serves */
	bool full;		/* and serves nobody */
	bool named;		/* its name is all that tells it from a game */
	u32 uid;		/* 0: 1000; 1: root */
};

#define STEAM "SteamAppId=570", "SteamGameId=570"
#define SESSION "/user.slice/user-1000.slice/session-2.scope"
#define STEAM_SCOPE "app-steam-4711.scope"

static const struct program programs[] = {
	/* games */
	{ "dota2", "/home/a/.local/share/Steam/steamapps/common/dota 2 beta/game/bin/dota2", STEAM_SCOPE, STEADY, 1, { STEAM } },
	{ "eldenring.exe", "/home/a/.steam/steamapps/common/Proton 9.0/files/bin/wine64-preloader", STEAM_SCOPE, STEADY, 1, { STEAM, "WINEPREFIX=/x" } },
	{ "game.exe", "/usr/lib/wine/wine64", "app-org.kde.konsole-9.scope", STEADY, 1, { "WINEPREFIX=/x" } },
	{ "witcher3.exe", "/opt/lutris/runners/wine/bin/wine64-preloader", "app-net.lutris.Lutris-77.scope", STEADY, 1, { "LUTRIS_GAME_UUID=1" } },
	{ "cyberpunk.exe", "/x/bin/wine64-preloader", "app-flatpak-com.heroicgameslauncher.hgl-8.scope", STEADY, 1, { "HEROIC_APP_NAME=Q" } },
	{ "stray.exe", "/x/bin/wine64-preloader", "app-flatpak-com.usebottles.bottles-8.scope", STEADY, 1, { "WINEPREFIX=/y" } },
	{ "hades.exe", "/x/bin/wine64-preloader", SESSION, STEADY, 1, { "UMU_ID=umu-1" } },
	{ "java", "/usr/lib/jvm/java-21/bin/java", "app-org.prismlauncher.PrismLauncher-5.scope", STEADY, 1, { 0 }, .category = 1 },
	{ "java", "/usr/lib/jvm/java-21/bin/java", SESSION, STEADY, 1 },
	{ "supertuxkart", "/usr/games/supertuxkart", "app-gnome-supertuxkart-311.scope", STEADY, 1, { 0 }, .category = 1 },
	{ "supertuxkart", "/usr/games/supertuxkart", SESSION, STEADY, 1 },
	{ "retroarch", "/usr/bin/retroarch", SESSION, STEADY, 1 },
	{ "ppsspp", "/app/bin/PPSSPPSDL", "app-flatpak-org.ppsspp.PPSSPP-55.scope", STEADY | INPUT, 1 },
	{ "dolphin-emu", "/usr/bin/dolphin-emu", "app-dolphin\\x2demu@1a2b.service", STEADY, 1, { 0 }, .category = 1 },
	{ "mgba", "/usr/bin/mgba", "app-mgba-2.scope", STEADY | INPUT, 1 },
	{ "quake", "/root/quake", "/", STEADY, 1, .uid = 1 },
	{ "quake", "/home/a/quake", "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1-2-3.scope", STEADY, 1 },
	{ "onethread", "/home/a/onethread", SESSION, STARVED, 1 },
	{ "hl2_linux", "/x/steamapps/common/Half-Life 2/hl2_linux", STEAM_SCOPE, STARVED, 1, { STEAM } },
	{ "pressure", "/usr/bin/pressure", "app-steam@autostart.service", STEADY, 1, { 0 }, .child = 1 },
	{ "kiosk-game", "/opt/kiosk/game", "/system.slice/cage@tty1.service", STEADY | INPUT, 1 },
	{ "kmsdrm-game", "/opt/kiosk/kms", "/system.slice/kiosk@tty1.service", STEADY, 1, .full = 1 },
	{ "kmsdrm-game", "/opt/kiosk/kms", "kiosk.service", STEADY, 1, .full = 1 },
	{ "shortcut", "/home/a/Games/x", "/user.slice/user-1000.slice/user@1000.service/session.slice/gamescope-session.service", STEADY, 1, { STEAM } },
	{ "emustation", "/usr/bin/emustation", SESSION, STARVED | SOUND, 1, .full = 1 },
	{ "keyboard-only", "/home/a/keys", SESSION, STEADY | SOUND, 1 },
	{ "mygame", "/home/a/mygame", "app-code-4.scope", NOTHING, 1, { "GAMER_GAME=1" } },
	{ "script", "/usr/bin/python3", "/system.slice/game.service", NOTHING, 1, { "GAMER_GAME=1" }, .uid = 1 },
	{ "stalls", "/home/a/stalls", SESSION, STEADY | STALLS, 1 },
	/* what comes with games */
	{ "steamwebhelper", "/home/a/.steam/ubuntu12_64/steamwebhelper", STEAM_SCOPE, STEADY, 0, { 0 }, "--type=gpu-process" },
	{ "vrcompositor", "/x/steamapps/common/SteamVR/bin/linux64/vrcompositor", STEAM_SCOPE, STEADY, 0, { STEAM }, .full = 1, .named = 1 },
	{ "steam", "/home/a/.steam/ubuntu12_32/steam", STEAM_SCOPE, INPUT, 0 },
	{ "steamwebhelper", "/home/a/.steam/ubuntu12_64/steamwebhelper", "/user.slice/user-1000.slice/user@1000.service/session.slice/gamescope-session.service", STEADY | INPUT, 0, { 0 }, "--type=gpu-process" },
	{ "heroic", "/opt/Heroic/heroic", "app-heroic-3.scope", STEADY, 0, { 0 }, "--type=gpu-process" },
	{ "lutris", "/usr/bin/python3.12", "app-net.lutris.Lutris-7.scope", DEMAND, 0 },
	{ "explorer.exe", "/x/bin/wine64-preloader", STEAM_SCOPE, DEMAND, 0, { STEAM, "WINEPREFIX=/x" } },
	{ "CrashReport.exe", "/x/bin/wine64-preloader", STEAM_SCOPE, DEMAND, 0, { STEAM, "WINEPREFIX=/x" } },
	{ "UnityCrashHandl", "/x/bin/wine64-preloader", STEAM_SCOPE, NOTHING, 0, { STEAM, "WINEPREFIX=/x" } },
	{ "gamewebview", "/x/steamapps/common/G/cef/webview", STEAM_SCOPE, STEADY, 0, { STEAM }, "--type=gpu-process" },
	{ "firefox", "/usr/lib/firefox/firefox", STEAM_SCOPE, NOTHING, 0, { STEAM }, .parts = 1 },
	{ "firefox", "/usr/lib/firefox/firefox", STEAM_SCOPE, DEMAND, 0, { STEAM }, .parts = 1 },
	{ "setup.exe", "/usr/lib/wine/wine64", "app-org.kde.dolphin-9.scope", DEMAND, 0, { "WINEPREFIX=/x" } },
	/* desktop programs */
	{ "firefox-esr", "/usr/lib/firefox-esr/firefox-esr", "app-gnome-firefox\\x2desr-12.scope", VIDEO, 0, { 0 }, .parts = 1 },
	{ "firefox-esr", "/usr/lib/firefox-esr/firefox-esr", SESSION, VIDEO, 0, { 0 }, .parts = 1 },
	{ "WebKitWebProces", "/usr/libexec/webkit2gtk-4.1/WebKitWebProcess", SESSION, STEADY, 0 },
	{ "librewolf", "/usr/lib/librewolf/librewolf", SESSION, STEADY, 0, { 0 }, .parts = 1 },
	{ "chromium", "/usr/lib/chromium/chromium", SESSION, STEADY, 0, { 0 }, "--type=gpu-process" },
	{ "brave", "/opt/brave/brave", "app-brave@77.service", STEADY, 0, { 0 }, "--type=gpu-process" },
	{ "teams", "/opt/teams/teams", "app-teams-7.scope", VIDEO, 0, { 0 }, "--type=gpu-process" },
	{ "zoom", "/opt/zoom/zoom", "app-gnome-Zoom-7.scope", VIDEO | SOUND, 0 },
	{ "nautilus", "/usr/bin/nautilus", "dbus-:1.2-org.gnome.Nautilus@0.service", DEMAND, 0 },
	{ "dolphin", "/usr/bin/dolphin", "app-org.kde.dolphin@99.service", DEMAND, 0 },
	{ "thunar", "/usr/bin/thunar", SESSION, DEMAND, 0 },
	{ "qemu-system-x86", "/usr/bin/qemu-system-x86_64", "app-virt\\x2dmanager-8.scope", STEADY, 0 },
	{ "virtualbox", "/usr/lib/virtualbox/VirtualBoxVM", "app-virtualbox-8.scope", STEADY | SOUND, 0 },
	{ "obs", "/usr/bin/obs", "app-com.obsproject.Studio-8.scope", STEADY, 0 },
	{ "obs", "/usr/bin/obs", SESSION, STEADY, 0, .named = 1 },
	{ "gpu-screen-reco", "/usr/bin/gpu-screen-recorder", "gpu-screen-recorder.service", STEADY, 0 },
	{ "blender", "/usr/bin/blender", "app-gnome-blender-9.scope", STEADY, 0 },
	{ "blender", "/usr/bin/blender", SESSION, DEMAND, 0 },
	{ "mpv", "/usr/bin/mpv", "app-mpv-8.scope", VIDEO | SOUND, 0 },
	{ "mpv", "/usr/bin/mpv", SESSION, VIDEO | SOUND, 0, .named = 1 },
	{ "vlc", "/usr/bin/vlc", "snap.vlc.vlc-1.scope", VIDEO, 0 },
	{ "kitty", "/usr/bin/kitty", SESSION, DEMAND, 0 },
	{ "alacritty", "/usr/bin/alacritty", "app-Alacritty-2.scope", STEADY, 0 },
	{ "code", "/usr/share/code/code", "app-code-4.scope", STEADY, 0, { 0 }, "--type=gpu-process" },
	{ "discord", "/opt/discord/Discord", "app-discord-4.scope", STEADY, 0, { 0 }, "--type=gpu-process" },
	{ "antimicrox", "/usr/bin/antimicrox", "app-antimicrox-4.scope", DEMAND | INPUT, 0 },
	{ "conky", "/usr/bin/conky", SESSION, DEMAND, 0 },
	{ "make", "/usr/bin/make", SESSION, NOTHING, 0 },
	/* the desktop, services */
	{ "gnome-shell", "/usr/bin/gnome-shell", "/user.slice/user-1000.slice/user@1000.service/session.slice/org.gnome.Shell@wayland.service", STEADY | INPUT, 0, .flips = 1 },
	{ "kwin_wayland", "/usr/bin/kwin_wayland", "/user.slice/user-1000.slice/user@1000.service/session.slice/plasma-kwin_wayland.service", STEADY | INPUT, 0, .flips = 1 },
	{ "plasmashell", "/usr/bin/plasmashell", "/user.slice/user-1000.slice/user@1000.service/background.slice/plasma-plasmashell.service", STEADY, 0 },
	{ "sway", "/usr/bin/sway", SESSION, STEADY | INPUT, 0, .flips = 1 },
	{ "greeter", "/usr/bin/greeter", SESSION, DEMAND, 0, .full = 1 },
	{ "plymouthd", "/usr/sbin/plymouthd", "/system.slice/plymouth-start.service", STEADY | INPUT, 0, .uid = 1 },
	{ "renderfarm", "/opt/farm/render", "/system.slice/farm.service", STEADY, 0, .uid = 999 },
	{ "keyd", "/usr/bin/keyd", "/system.slice/keyd.service", INPUT, 0, .uid = 1 },
	{ "qemu-system-x86", "/usr/bin/qemu-system-x86_64", "/machine.slice/machine-qemu\\x2d1\\x2dwin.scope/libvirt/emulator", STEADY, 0, .uid = 64055 },
	{ "podman-game", "/game", "/machine.slice/libpod-1f.scope/container", STEADY, 1 },
	{ "glmatrix", "/usr/libexec/xscreensaver/glmatrix", SESSION, STEADY, 0 },
};

static u32 seed = 1;

static u32 drawn(u32 below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

/* The frames of the last seconds before `now`, as BPF counts them. */
static struct activity activity_of(u32 does, u64 now)
{
	u32 newest = now >> ACTIVITY_BIN_SHIFT, i, frames;
	struct activity a = { .bin = newest };

	for (i = 0; i < ACTIVITY_BINS; i++) {
		frames = does & STEADY ? 15 + drawn(3) : does & VIDEO ? 6 + drawn(2) : does & STARVED ? 1 + drawn(3) :
			 does & DEMAND && (newest - i) / 5 % 3 == 0 ? 3 + drawn(14) : 0;
		if (does & STALLS && i == 6)
			frames = 0;
		a.bins[(newest - i) % ACTIVITY_BINS] = frames;
		if (frames && !a.frame_at_ns)
			a.frame_at_ns = now - ((u64)i << ACTIVITY_BIN_SHIFT);
	}
	a.input_at_ns = does & INPUT ? now - NSEC_PER_SEC : 0;
	a.sound_at_ns = does & SOUND ? now - NSEC_PER_SEC : 0;
	return a;
}

static struct seen seen_of(const struct program *p, const char *comm, u64 now)
{
	struct activity a = activity_of(p->does, now);
	char path[256], app[128];
	struct seen s = { 0 };
	u32 uid = p->uid == 1 ? 0 : p->uid ? p->uid : 1000, i;

	snprintf(path, sizeof(path), "%s%s", *p->cgroup == '/' ? "" :
		 "/user.slice/user-1000.slice/user@1000.service/app.slice/", p->cgroup);
	s.is = comm_traits(comm) | exe_traits(p->exe) | cgroup_traits(path, uid, app);
	for (i = 0; i < 3 && p->env[i]; i++)
		s.is |= env_traits(p->env[i]);
	s.is |= (p->arg ? arg_traits(p->arg) : 0) | (p->parts ? T(PARTS) : 0) | (p->child ? T(LAUNCHED) : 0) |
		(p->flips ? T(FLIPS) : 0) | (p->full ? T(FULL) : 0) | (p->category ? T(GAME_APP) : 0);
	s.does = activity_traits(&a, now);
	return s;
}

/* A name that no table has; what Windows' names end in stays. */
static const char *name_drawn(const char *like)
{
	static char name[16];
	u32 i;

	for (i = 0; i < 9; i++)
		name[i] = 'a' + drawn(26);
	name[i] = 0;
	if (strstr(like, ".exe"))
		strcpy(name + 8, ".exe");
	return name;
}

static int programs_are_told(void)
{
	u64 now = 1000 * NSEC_PER_SEC;
	int wrong = 0, named = 0;
	char why[512];
	size_t i;
	u32 n;

	for (i = 0; i < ARRAY_SIZE(programs); i++)
		for (n = 0; n < 40; n++) {
			const struct program *p = &programs[i];
			const char *comm = n ? name_drawn(p->comm) : p->comm;
			struct seen s = seen_of(p, comm, now + n * 123456789);
			bool game = game_plays(&s) && !comm_class(comm);

			if (!n)
				named += p->named;
			if (game == p->game || (n && p->named))
				continue;
			game_why(&s, why, sizeof(why));
			printf("%s as %s in %s: score %d: %s\n", p->comm, comm, p->cgroup, game_score(&s), why);
			wrong++;
			break;
		}
	if (named > 3) {
		printf("%d programs are told by their name alone\n", named);
		wrong++;
	}
	return wrong;
}

/* The application that a control group's name tells */
static const struct { const char *unit, *app; } group_units[] = {
	{ "app-gnome-dolphin\\x2demu-4711.scope", "gnome-dolphin-emu" },
	{ "app-org.kde.kpat@3f1c.service", "org.kde.kpat" },
	{ "app-flatpak-org.ppsspp.PPSSPP-55.scope", "flatpak-org.ppsspp.PPSSPP" },
	{ "app-steam-4711.scope", "" },
	{ "snap.supertuxkart.supertuxkart-5e0d9a3c-8f5e-4b8c-9d0a-0123456789ab.scope", "supertuxkart_supertuxkart" },
	{ "snap.a-b.c-d.5e0d9a3c-8f5e-4b8c-9d0a-0123456789ab.scope", "a-b_c-d" },
	{ "snap.steam.steam-5e0d9a3c-8f5e-4b8c-9d0a-0123456789ab.scope", "" },
	{ "snap.x.scope", "snap.x" },
};

static int units_are_read(void)
{
	char path[256], app[128];
	int wrong = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(group_units); i++) {
		snprintf(path, sizeof(path), "/user.slice/user-1000.slice/user@1000.service/app.slice/%s", group_units[i].unit);
		cgroup_traits(path, 1000, app);
		if (strcmp(app, group_units[i].app)) {
			printf("%s is of '%s'\n", group_units[i].unit, app);
			wrong++;
		}
	}
	return wrong;
}

/* Scenes: what processes do at which second, and who is the game 5 s after each change. */
struct actor {
	const struct program *is;
	struct { u32 at; u32 does; } acts[5];	/* from that second on; the last: at 0 */
	s32 parent;		/* its actor, plus 1 */
	u32 from, until;	/* it lives; 0: to the end */
	u32 launch;		/* what was started */
};

struct scene {
	const char *name;
	struct actor actor[3];
	struct { u32 at; s32 game; } wanted[5];	/* its actor plus 1, 0: none; the last: at 0 */
	u32 changes;
};

static const struct program
	native = { "native", "/home/a/n", SESSION },
	kiosk = { "kiosk", "/opt/k", SESSION, .full = 1 },
	desktop = { "shell", "/usr/bin/s", SESSION, .flips = 1 },
	emulator = { "emulator", "/usr/bin/emu", "app-emu-1.scope" },
	steam = { "game", "/x/steamapps/common/g/game", STEAM_SCOPE, .env = { STEAM } },
	launcher = { "launcherthing", "/x/steamapps/common/g/l", STEAM_SCOPE, .env = { STEAM } },
	helper = { "helper.exe", "/x/bin/wine64", STEAM_SCOPE, .env = { STEAM, "WINEPREFIX=/x" } },
	windows = { "big.exe", "/x/bin/wine64", STEAM_SCOPE, .env = { STEAM, "WINEPREFIX=/x" } },
	tool = { "tool.exe", "/x/bin/wine64", SESSION, .env = { "WINEPREFIX=/x" } },
	browser = { "browser", "/usr/lib/b/b", "app-b-1.scope", .parts = 1 },
	left = { "browser", "/usr/lib/b/b", STEAM_SCOPE, .env = { STEAM }, .parts = 1 },
	recorder = { "recorder", "/usr/bin/r", "app-r-1.scope" },
	menu = { "menu", "/usr/bin/m", "app-m-1.scope", .category = 1 },
	declared = { "told", "/home/a/t", SESSION, .env = { "GAMER_GAME=1" } };

static const struct scene scenes[] = {
	{ "launcher first", { { &launcher, { { 1, STEADY }, { 20, DEMAND } } }, { &steam, { { 20, STEADY } }, 1, 18 } },
	  { { 10, 1 }, { 25, 2 }, { 39, 2 } }, 2 },
	{ "launcher draws on", { { &launcher, { { 1, STEADY } } }, { &steam, { { 20, STEADY } }, 1, 18 } },
	  { { 10, 1 }, { 25, 2 }, { 39, 2 } }, 2 },
	{ "launcher without a name", { { &steam, { { 1, DEMAND } } }, { &steam, { { 20, STEADY } }, 1, 18 } },
	  { { 10, 0 }, { 25, 2 }, { 39, 2 } }, 1 },
	{ "game first, helper later", { { &windows, { { 1, STEADY } } }, { &helper, { { 10, STEADY } }, 1, 10 } },
	  { { 6, 1 }, { 20, 1 }, { 39, 1 } }, 1 },
	{ "crash reporter", { { &windows, { { 1, STEADY } }, 0, 0, 20 }, { &helper, { { 19, DEMAND } }, 1, 19 } },
	  { { 6, 1 }, { 25, 0 }, { 39, 0 } }, 1 },
	{ "browser on top", { { &native, { { 1, STEADY }, { 15, NOTHING }, { 30, STEADY } } }, { &browser, { { 2, DEMAND }, { 15, VIDEO } } } },
	  { { 6, 1 }, { 20, 1 }, { 29, 1 }, { 39, 1 } }, 1 },
	{ "video call beside", { { &browser, { { 1, VIDEO | SOUND } } }, { &emulator, { { 10, STEADY | INPUT } }, 0, 9 } },
	  { { 9, 0 }, { 15, 2 }, { 39, 2 } }, 1 },
	{ "recorder", { { &recorder, { { 1, STEADY } } }, { &native, { { 10, STEADY } }, 0, 9, 30 } },
	  { { 9, 0 }, { 15, 2 }, { 38, 0 } }, 1 },
	{ "paused", { { &native, { { 1, STEADY }, { 10, NOTHING }, { 35, STEADY } } } },
	  { { 6, 1 }, { 30, 1 }, { 39, 1 } }, 1 },
	{ "paused, another is played", { { &steam, { { 1, STEADY }, { 10, NOTHING } } }, { &native, { { 20, STEADY } }, 0, 19 } },
	  { { 6, 1 }, { 19, 1 }, { 25, 2 }, { 39, 2 } }, 2 },
	{ "two games", { { &steam, { { 1, STEADY | INPUT }, { 20, STEADY } } }, { &steam, { { 5, STEADY }, { 20, STEADY | INPUT } } } },
	  { { 6, 1 }, { 19, 1 }, { 25, 2 }, { 39, 2 } }, 2 },
	{ "left behind", { { &steam, { { 1, STEADY } }, 0, 0, 20 }, { &left, { { 10, NOTHING }, { 25, DEMAND } }, 1, 10 } },
	  { { 6, 1 }, { 24, 0 }, { 39, 0 } }, 1 },
	{ "told by hand", { { &declared, { { 1, NOTHING } } }, { &steam, { { 2, STEADY | INPUT } } } },
	  { { 2, 1 }, { 20, 1 }, { 39, 1 } }, 1 },
	{ "full screen without a desktop", { { &recorder, { { 1, STEADY } } }, { &kiosk, { { 5, STEADY } }, 0, 4, 30 } },
	  { { 4, 0 }, { 10, 2 }, { 29, 2 }, { 35, 0 } }, 1 },
	{ "the desktop draws and reads input", { { &desktop, { { 1, STEADY | INPUT } } }, { &native, { { 10, STEADY } }, 0, 9 } },
	  { { 9, 0 }, { 15, 2 }, { 39, 2 } }, 1 },
	{ "keyboard only", { { &desktop, { { 1, STEADY } } }, { &native, { { 5, STEADY | SOUND } }, 0, 5 }, { &browser, { { 2, DEMAND } } } },
	  { { 4, 0 }, { 10, 2 }, { 39, 2 } }, 1 },
	{ "launcher that hides, not above its game", { { &windows, { { 1, STEADY }, { 22, NOTHING } } }, { &windows, { { 20, STEADY } }, 0, 18 } },
	  { { 10, 1 }, { 27, 2 }, { 39, 2 } }, 2 },
	{ "crashes and starts again", { { &windows, { { 1, STEADY } }, 0, 0, 20 }, { &windows, { { 20, STEADY } }, 0, 20 } },
	  { { 6, 1 }, { 25, 2 }, { 39, 2 } }, 2 },
	{ "from one game to another and back", { { &native, { { 1, STEADY }, { 12, NOTHING }, { 24, STEADY } } },
	  { &native, { { 12, STEADY }, { 24, NOTHING } }, 0, 10 } }, { { 6, 1 }, { 17, 2 }, { 23, 2 }, { 29, 1 } }, 3 },
	{ "front end", { { &menu, { { 1, STEADY | INPUT }, { 20, NOTHING }, { 32, STEADY | INPUT } } },
	  { &menu, { { 20, STEADY | INPUT } }, 1, 20, 32 } }, { { 6, 1 }, { 25, 2 }, { 31, 2 }, { 37, 1 } }, 3 },
	{ "loads for long beside a recorder", { { &native, { { 1, STEADY }, { 10, DEMAND }, { 20, STARVED }, { 30, STEADY } } },
	  { &recorder, { { 2, STEADY } } } }, { { 6, 1 }, { 19, 1 }, { 29, 1 }, { 39, 1 } }, 1 },
	{ "the player rests", { { &emulator, { { 1, STEADY | INPUT }, { 10, STEADY }, { 25, STEADY | INPUT } } }, { &browser, { { 2, VIDEO } } } },
	  { { 6, 1 }, { 20, 1 }, { 39, 1 } }, 1 },
	{ "the player rests, another is played", { { &emulator, { { 1, STEADY | INPUT }, { 10, NOTHING } } }, { &native, { { 20, STEADY } }, 0, 19 } },
	  { { 6, 1 }, { 19, 1 }, { 25, 2 }, { 39, 2 } }, 2 },
	{ "another game is started, and this one draws on", { { &steam, { { 1, STEADY } }, .launch = 1 },
	  { &steam, { { 10, STEADY } }, 0, 9, 30, .launch = 2 } }, { { 6, 1 }, { 15, 2 }, { 29, 2 }, { 39, 1 } }, 3 },
	{ "another part of the same start", { { &steam, { { 1, STEADY } }, .launch = 1 },
	  { &steam, { { 10, STEADY }, { 20, NOTHING }, { 25, STEADY } }, .launch = 1 } }, { { 6, 1 }, { 39, 1 } }, 1 },
	{ "another game draws behind this one, and stutters", { { &steam, { { 1, STEADY }, { 14, NOTHING }, { 15, STEADY } }, .launch = 1 },
	  { &steam, { { 5, STEADY } }, .launch = 2 } }, { { 4, 1 }, { 11, 2 }, { 39, 2 } }, 2 },
	{ "another game is started, this one was played by pad", { { &steam, { { 1, STEADY | INPUT }, { 8, STEADY }, { 25, STEADY | INPUT },
	  { 30, STEADY } }, .launch = 1 }, { &steam, { { 15, STEADY } }, .launch = 2 } }, { { 14, 1 }, { 22, 2 }, { 29, 1 }, { 39, 1 } }, 3 },
	{ "back to what draws again, beside what draws on", { { &native, { { 1, STEADY }, { 10, NOTHING }, { 20, STEADY } } },
	  { &native, { { 10, STEADY } } } }, { { 6, 1 }, { 15, 2 }, { 25, 1 }, { 39, 1 } }, 3 },
	{ "a tool of Wine's without a launcher", { { &tool, { { 1, STEADY } } }, { &tool, { { 10, STEADY }, { 20, NOTHING }, { 25, STEADY } } } },
	  { { 6, 1 }, { 39, 1 } }, 1 },
	{ "a program that draws as a game, begun later", { { &native, { { 1, STEADY } } }, { &native, { { 10, STEADY } } } },
	  { { 6, 1 }, { 39, 1 } }, 1 },
	{ "a launcher that shows itself again", { { &steam, { { 1, STEADY }, { 12, NOTHING }, { 25, STEADY } } }, { &steam, { { 10, STEADY } }, 1, 8 } },
	  { { 6, 1 }, { 20, 2 }, { 39, 2 } }, 2 },
	{ "starved beside a recorder", { { &native, { { 1, STARVED } } }, { &recorder, { { 1, STEADY } } } },
	  { { 6, 1 }, { 39, 1 } }, 1 },
};

/* What an actor does, as BPF would have counted it in the last seconds. */
static struct activity acted(const struct actor *a, u64 now)
{
	u32 newest = now >> ACTIVITY_BIN_SHIFT, i, n;
	struct activity all = { .bin = newest };

	for (i = 0; i < ACTIVITY_BINS && (u64)i << ACTIVITY_BIN_SHIFT < now; i++) {
		u64 at = now - ((u64)i << ACTIVITY_BIN_SHIFT);
		struct activity one = { 0 };

		for (n = 0; n < 5 && a->acts[n].at && a->acts[n].at * NSEC_PER_SEC <= at; n++)
			one = activity_of(a->acts[n].does, at);
		all.bins[(newest - i) % ACTIVITY_BINS] = one.bins[(at >> ACTIVITY_BIN_SHIFT) % ACTIVITY_BINS];
		if (all.bins[(newest - i) % ACTIVITY_BINS] && !all.frame_at_ns)
			all.frame_at_ns = at;
		all.input_at_ns = MAX(all.input_at_ns, one.input_at_ns);
	}
	return all;
}

static int scene_is_told(const struct scene *c)
{
	u32 changes = 0, i, n = 0, tick;

	memset(game.slot, 0, sizeof(game.slot));
	game.now = NULL;
	for (tick = 2; tick < 2 * 40; tick++) {
		u64 now = tick * JUDGE_NS;
		struct game_slot *next;

		for (i = 0; i < 3 && c->actor[i].is; i++) {
			const struct actor *a = &c->actor[i];
			struct game_slot *s = &game.slot[i];
			struct activity did = acted(a, now);
			u64 input = s->input_at_ns;

			if (now < a->from * NSEC_PER_SEC || (a->until && now >= a->until * NSEC_PER_SEC)) {
				game.now = game.now == s ? NULL : game.now;
				*s = (struct game_slot){ 0 };
				continue;
			}
			s->pid = 100 + i;
			s->known = 1;
			s->uid = 1000;
			s->above[0] = a->parent ? 99 + a->parent : 0;
			snprintf(s->comm, sizeof(s->comm), "%s", a->is->comm);
			s->launch = a->launch;
			s->seen = seen_of(a->is, a->is->comm, now);
			slot_does(s, &did, now);
			s->input_at_ns = MAX(s->input_at_ns, input);
		}
		next = game_pick(now);
		if (next != game.now) {
			changes += next != NULL;
			game.now = next;
			game.since_ns = now;
			if (next)
				next->was = 1;
		}
		if (c->wanted[n].at && now >= c->wanted[n].at * NSEC_PER_SEC) {
			i = game.now ? game.now - game.slot + 1 : 0;
			if (i != (u32)c->wanted[n].game) {
				printf("%s, second %u: the game is %u, not %d\n", c->name, tick / 2, i, c->wanted[n].game);
				return 1;
			}
			n++;
		}
	}
	if (changes != c->changes)
		printf("%s: %u changes, not %u\n", c->name, changes, c->changes);
	return changes != c->changes;
}

int main(void)
{
	int wrong = programs_are_told() + units_are_read();
	size_t i;
	u32 n;

	for (i = 0; i < ARRAY_SIZE(scenes); i++)
		for (n = 0; n < 20; n++)
			if (scene_is_told(&scenes[i])) {
				wrong++;
				break;
			}
	printf("%zu programs, %zu scenes, %d wrong\n", ARRAY_SIZE(programs), ARRAY_SIZE(scenes), wrong);
	return wrong != 0;
}
