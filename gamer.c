/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gamer.c: everything in user space.
 *
 *   1. includes
 *   2. constants and types
 *   3. tables                commands, options, hooks, stats: all that a person sees
 *   4. state                 the one running instance
 *   5. log and errors        messages, allocation count, exit
 *   6. small I/O             files, numbers, output buffer, JSON
 *   7. topology              caches, siblings, capacity, power supply -> BPF constants
 *   8. load and attach       kernel probes, hooks, the BPF object's life
 *   9. wine                  uprobes on the ntdll.so of whatever Wine the game brings
 *  10. game                  which process is the game, which serve it
 *  11. output                status as text, JSON and OpenMetrics
 *  12. event consumers       the epoll loop: signals, BPF events, clients, power changes
 *  13. bench                 the synthetic game, its loads and its report
 *  14. commands              run, status, bench, check, unit
 *  15. main                  option parser
 *
 * `gamer run` is cmd_run -> run_once -> bpf_load -> bpf_attach -> loop. Start reading there;
 * the four tables of section 3 tell what exists.
 */

/* ===================================================================================== */
/* 1. includes                                                                           */
/* ===================================================================================== */

#include <arpa/inet.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <linux/netlink.h>
#include <linux/types.h>
#include <linux/uinput.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "gamer.bpf.c"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;

#include "gamer.skel.h"

/* ===================================================================================== */
/* 2. constants and types                                                                */
/* ===================================================================================== */

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define MAX(a, b)	((a) > (b) ? (a) : (b))
#define NSEC_PER_USEC	1000ULL
#define NSEC_PER_MSEC	1000000ULL
#define NSEC_PER_SEC	1000000000ULL
#define MAX_CLIENTS	8
#define OUT_SIZE	(64 * 1024)	/* the longest answer to a client */
#define CLIENT_LINE	256		/* the longest request of a client */
#define CPUPERF_ONE	1024		/* SCX_CPUPERF_ONE: full speed */
#define SCX_DIR		"/sys/kernel/sched_ext/"

/* Output: gathers text and writes it to fd when full or flushed; no allocation. */
struct out {
	int fd;			/* destination, or -1: keep, and cut what does not fit */
	bool failed;		/* a write failed or text was cut */
	size_t len;		/* bytes in buf */
	char buf[OUT_SIZE];
};

/* JSON writer on an output; `comma` has a bit per nesting level. */
struct json {
	struct out *o;
	u32 depth;
	u64 comma;
};

enum kernel_const {
#define X(name, type, required) KCONST_##name,
	KERNEL_CONSTS(X)
#undef X
	KCONST_NR
};

enum opt_type { OPT_FLAG, OPT_NUM, OPT_STR, OPT_CHOICE };
enum profile { PROFILE_AUTO, PROFILE_PERFORMANCE, PROFILE_BALANCED, PROFILE_POWERSAVE };

/* ===================================================================================== */
/* 3. tables                                                                             */
/* ===================================================================================== */

/* name, one-line help */
#define COMMANDS(X)								\
	X(run, "schedule in the foreground until SIGINT or SIGTERM (the default)") \
	X(status, "one snapshot of a running gamer")				\
	X(bench, "synthetic game: frame, input, audio and wakeup figures")	\
	X(check, "what this kernel offers, hook by hook")			\
	X(unit, "print a systemd unit")						\
	X(options, "print the option table, one option a line")

enum command_id {
#define X(name, help) CMD_##name,
	COMMANDS(X)
#undef X
	CMD_NR
};

#define X(name, help) static int cmd_##name(void);
COMMANDS(X)
#undef X

static const struct command {
	const char *name;
	int (*fn)(void);	/* returns the exit code */
	const char *help;
} commands[] = {
#define X(name, help) { #name, cmd_##name, help },
	COMMANDS(X)
#undef X
};

#define C(name)		(1u << CMD_##name)
#define C_ALL		(~0u)

/* id, long name, letter, type, commands, default, min, max, argument or choices, help */
#define OPTIONS(X)								\
	X(HELP, "help", 'h', FLAG, C_ALL, 0, 0, 1, NULL, "show help")		\
	X(VERSION, "version", 'V', FLAG, C_ALL, 0, 0, 1, NULL, "show version")	\
	X(JSON, "json", 'j', FLAG, C(status) | C(check) | C(bench), 0, 0, 1, NULL, \
	  "print JSON")								\
	X(METRICS, "metrics", 'm', FLAG, C(status), 0, 0, 1, NULL, "print OpenMetrics") \
	X(VERBOSE, "verbose", 'v', FLAG, C(run) | C(check), 0, 0, 1, NULL,	\
	  "show what libbpf says")						\
	X(PROFILE, "profile", 'p', CHOICE, C(run), 0, 0, 3,			\
	  "auto|performance|balanced|powersave", "power profile; auto follows AC and platform_profile") \
	X(HOOKS, "hooks", 0, STR, C(run) | C(check), 0, 0, 0, "[-+]NAME,...",	\
	  "switch hooks off or on")						\
	X(OBSERVE, "observe", 'o', FLAG, C(run), 0, 0, 1, NULL,			\
	  "find roles and schedule nothing; needs no sched_ext")		\
	X(GAME, "game", 0, NUM, C(run), 0, 0, 4194304, NULL,			\
	  "treat this process as the game; 0: find it")		\
	X(FAST_CPUS, "fast-cpus", 0, STR, C(run), 0, 0, 0, "LIST",		\
	  "CPUs that critical threads prefer; default: by capacity and preferred core") \
	X(WITHOUT, "without", 0, STR, C(run), 0, 0, 0, "PART,...",		\
	  "leave out parts of the scheduler, to measure what they are worth")	\
	X(SECONDS, "seconds", 's', NUM, C(bench), 10, 1, 86400, NULL, "measured time") \
	X(WARMUP_MS, "warmup-ms", 0, NUM, C(bench), 1000, 0, 60000, NULL,	\
	  "time before it, not measured")					\
	X(FPS, "fps", 'f', NUM, C(bench), 60, 10, 480, NULL, "frame limiter and vblank rate, Hz") \
	X(WORKERS, "workers", 'w', NUM, C(bench), 0, 0, 64, NULL, "job threads; 0: by CPUs") \
	X(INPUT_HZ, "input-hz", 0, NUM, C(bench), 1000, 125, 8000, NULL, "input events per second") \
	X(AUDIO_FRAMES, "audio-frames", 0, NUM, C(bench), 256, 64, 1024, NULL,	\
	  "audio period in frames at 48 kHz")					\
	X(LOAD, "load", 'l', CHOICE, C(bench), 0, 0, 5, "none|hogs|fork|pipe|io|mixed", \
	  "what else the machine does")						\
	X(LOAD_THREADS, "load-threads", 'n', NUM, C(bench), 0, 0, 512, NULL,	\
	  "tasks of the load; 0: twice the CPUs")				\
	X(ITERS_PER_MS, "iters-per-ms", 0, NUM, C(bench), 0, 0, 1000000000, NULL, \
	  "work in a millisecond; 0: measure it")				\
	X(FRAME_WORK_US, "frame-work-us", 0, NUM, C(bench), 0, 0, 1000000, NULL, \
	  "work of a frame over all threads; 0: 24 % of its period")		\
	X(NO_UINPUT, "no-uinput", 0, FLAG, C(bench), 0, 0, 1, NULL, "input from a timer, not a device") \
	X(NO_DRM, "no-drm", 0, FLAG, C(bench), 0, 0, 1, NULL, "frames end by a timer, not a GPU") \
	X(SVG, "svg", 0, STR, C(bench), 0, 0, 0, "FILE", "plot of the frame times") \
	X(CSV, "csv", 0, STR, C(bench), 0, 0, 0, "FILE", "frame times in MangoHud's columns")

enum opt_id {
#define X(id, ...) OPT_##id,
	OPTIONS(X)
#undef X
	OPT_NR
};

static const struct option_desc {
	const char *name;	/* without the dashes */
	char letter;		/* 0: none */
	u8 type;		/* enum opt_type */
	u32 cmds;		/* bit per command that takes it */
	s64 def, min, max;	/* of numbers; of choices: index */
	const char *arg;	/* metavariable, or choices separated by | */
	const char *help;
} options[OPT_NR] = {
#define X(id, name, letter, type, cmds, def, min, max, arg, help) \
	{ name, letter, OPT_##type, cmds, def, min, max, arg, help },
	OPTIONS(X)
#undef X
};

/* What a hook needs in the kernel: something in its BTF, or that one of its PROGS can be had. */
enum need { NEED_TYPE, NEED_FUNC, NEED_MEMBER, NEED_CONST, NEED_IRQ_BITS, NEED_PROG };

/* id, name, need, what, member or value, optional, fallback, description */
#define HOOKS(X)								\
	X(SCHED, "sched", TYPE, "sched_ext_ops", NULL, 0,			\
	  "run --observe: the kernel's own scheduler stays", "scheduling by role (sched_ext)") \
	X(RUNTIME, "runtime", PROG, NULL, NULL, 1,				\
	  "exact events alone", "run and sleep patterns")			\
	X(GPU, "gpu", PROG, NULL, NULL, 1,					\
	  "patterns, names", "who submits to the GPU, by driver and request")	\
	X(NVIDIA, "nvidia", PROG, NULL, NULL, 1,				\
	  "patterns, names", "who uses NVIDIA's own driver; a hint, not proof")	\
	X(FRAME, "frame", PROG, NULL, NULL, 1,					\
	  "frames by the cadence of submits", "page flips and their completion") \
	X(WINE, "wine", PROG, NULL, NULL, 1,					\
	  "patterns, names", "thread priorities that Windows programs set")	\
	X(INPUT, "input", PROG, NULL, NULL, 1,					\
	  "none", "events of mice, keyboards, gamepads, touch")			\
	X(READERS, "readers", PROG, NULL, NULL, 1,				\
	  "patterns, names", "who reads input devices")				\
	X(AUDIO, "audio", PROG, NULL, NULL, 1,					\
	  "patterns, names", "who moves sound to ALSA")				\
	X(NETWORK, "network", PROG, NULL, NULL, 1,				\
	  "patterns, names", "who in the game sends and receives UDP")		\
	X(GAME, "game", PROG, NULL, NULL, 1,					\
	  "exec tracepoint", "programs that start, by LSM")			\
	X(EXEC, "exec", PROG, NULL, NULL, 1,					\
	  "/proc every 2 s", "programs that start, by tracepoint")		\
	X(NAME, "name", PROG, NULL, NULL, 1,					\
	  "names at the time a game is found", "threads and processes that get a name") \
	X(CGROUP, "cgroup", MEMBER, "sched_ext_ops", "cgroup_set_weight", 1,	\
	  "nice values alone", "CPU weights of control groups")			\
	X(CPUPERF, "cpuperf", FUNC, "scx_bpf_cpuperf_set", NULL, 1,		\
	  "the governor's own choice", "CPU frequency targets by role")		\
	X(KICK, "kick", FUNC, "scx_bpf_kick_cpu", NULL, 1,			\
	  "insert into that CPU's own queue", "tell a CPU to take queued work") \
	X(IRQ, "irq", IRQ_BITS, "__preempt_count", NULL, 1,			\
	  "patterns alone", "tell what devices and timers wake from the first wakeup on") \
	X(IMMED, "immed", CONST, "scx_enq_flags", "SCX_ENQ_IMMED", 1,		\
	  "cpu_release callback", "leave a CPU that a real-time task takes")

enum hook_id {
#define X(id, ...) HOOK_##id,
	HOOKS(X)
#undef X
	HOOK_NR
};

static const struct hook {
	const char *name;
	u8 need;		/* enum need */
	const char *what;	/* type or function, or NULL */
	const char *part;	/* member or value, or NULL */
	u8 optional;		/* 0: nothing works without it; cannot be switched off */
	const char *fallback;	/* what is used instead */
	const char *help;
} hooks[HOOK_NR] = {
#define X(id, name, need, what, part, optional, fallback, help) \
	{ name, NEED_##need, what, part, optional, fallback, help },
	HOOKS(X)
#undef X
};

/* How a program gets to its place. */
enum prog_kind { PROG_TP, PROG_FENTRY, PROG_LSM, PROG_KPROBE, PROG_UPROBE };

/*
 * The optional BPF programs: name, hook, kind, what it attaches to, the module that has it
 * where it may not be built in (NULL: never a module). Their order is that of trying.
 */
#define PROGS(X)								\
	X(runtime_switch, RUNTIME, TP, "sched_switch", NULL)			\
	X(runtime_waking, RUNTIME, TP, "sched_waking", NULL)			\
	X(gpu_ioctl, GPU, FENTRY, "drm_ioctl", "drm")				\
	X(frame_flipped, FRAME, FENTRY, "drm_send_event_timestamp_locked", "drm") \
	X(gpu_doorbell, NVIDIA, KPROBE, "nvidia_unlocked_ioctl nvidia_ioctl nv_drm_ioctl", \
	  "nvidia")								\
	X(wine_set_thread, WINE, UPROBE, "NtSetInformationThread", NULL)	\
	X(wine_set_process, WINE, UPROBE, "NtSetInformationProcess", NULL)	\
	X(input_event_seen, INPUT, FENTRY, "input_event", "input_core")		\
	X(input_gone, INPUT, FENTRY, "input_unregister_device", "input_core")	\
	X(readers_evdev, READERS, FENTRY, "evdev_read", "evdev")		\
	X(readers_hidraw, READERS, FENTRY, "hidraw_read", "hid")		\
	X(audio_ioctl, AUDIO, FENTRY, "snd_pcm_ioctl", "snd_pcm")		\
	X(network_send, NETWORK, FENTRY, "udp_sendmsg", NULL)			\
	X(network_receive, NETWORK, FENTRY, "udp_recvmsg", NULL)		\
	X(network_send6, NETWORK, FENTRY, "udpv6_sendmsg", "ipv6")		\
	X(network_receive6, NETWORK, FENTRY, "udpv6_recvmsg", "ipv6")		\
	X(game_lsm, GAME, LSM, "bprm_committed_creds", NULL)			\
	X(game_exec, EXEC, TP, "sched_process_exec", NULL)			\
	X(name_changed, NAME, TP, "task_rename", NULL)

enum prog_id {
#define X(name, ...) PROG_##name,
	PROGS(X)
#undef X
	PROG_NR
};

static const struct prog {
	const char *name;	/* of the BPF program */
	u8 hook;		/* enum hook_id that it serves */
	u8 kind;		/* enum prog_kind */
	const char *target;	/* function, tracepoint or LSM hook; of a kprobe: any of these */
	const char *module;	/* where the target is if not in the kernel itself */
} progs[PROG_NR] = {
#define X(name, hook, kind, target, module) { #name, HOOK_##hook, PROG_##kind, target, module },
	PROGS(X)
#undef X
};

/* Kept by user space: id, name, unit, type, help. */
#define USER_STATS(X)								\
	X(UPTIME, uptime_s, "s", GAUGE, "time since attach")			\
	X(LOAD_US, load_us, "us", GAUGE, "time to open and verify the BPF programs") \
	X(ATTACH_US, attach_us, "us", GAUGE, "time to switch all tasks to gamer") \
	X(RESTARTS, restarts, "", COUNTER, "restarts after CPU hotplug")	\
	X(ALLOCS, allocations_after_attach, "", COUNTER, "memory allocations since attach") \
	X(RSS_KB, rss_kb, "KiB", GAUGE, "resident memory of gamer")		\
	X(REJECTED, nr_rejected, "", COUNTER, "tasks that sched_ext refused")	\
	X(CLIENTS_DROPPED, clients_dropped, "", COUNTER, "clients too slow or too many")

enum user_stat {
#define X(id, ...) USTAT_##id,
	USER_STATS(X)
#undef X
	USTAT_NR
};

enum stat_type { STAT_COUNTER, STAT_GAUGE };

/* BPF's counters first, in the order of the ABI; then those of user space. */
static const struct stat_desc {
	const char *name;
	const char *unit;
	u8 type;		/* enum stat_type */
	const char *help;
} stats[BPF_STAT_NR + USTAT_NR] = {
#define X(id, name, help) { #name, "", STAT_COUNTER, help },
	BPF_STATS(X)
#undef X
#define X(id, name, unit, type, help) { #name, unit, STAT_##type, help },
	USER_STATS(X)
#undef X
};

static const char *const source_names[] = {
#define X(id, name, seconds) #name,
	SOURCES(X)
#undef X
};

static const char *const class_names[] = {
#define X(id, name) #name,
	CLASSES(X)
#undef X
};

static const char *const role_names[] = {
#define X(id, name, prio, warp_us) #name,
	ROLES(X)
#undef X
};

/* ===================================================================================== */
/* 4. state                                                                              */
/* ===================================================================================== */

/* One connected client; a slot is free where fd < 0. */
struct client {
	int fd;
	u32 len;			/* bytes of a request gathered in line */
	char line[CLIENT_LINE];
};

static struct state {
	struct gamer_bpf *skel;		/* NULL while detached */
	struct bpf_link *link;		/* the attached scheduler */
	struct ring_buffer *ring;	/* events from BPF */
	int epoll_fd, signal_fd, listen_fd, uevent_fd, watchdog_fd, lock_fd;
	struct client clients[MAX_CLIENTS];
	bool attached;			/* allocations are counted while set */
	bool stop;			/* a signal asked to stop */
	bool exited;			/* the kernel let the scheduler go; see exit_event */
	struct event_exit exit_event;	/* last exit */
	u64 allocs;			/* since attach */
	u64 attach_at_ns;		/* CLOCK_MONOTONIC */
	u64 load_us, attach_us;
	u64 restarts, clients_dropped;
	enum profile profile;		/* in force, after auto was resolved */
	u32 left_out;			/* bits by enum part; parts_parse() */
	u64 kernel_const[KCONST_NR];	/* values in the running kernel's BTF */
	u32 irq_mask;			/* interrupt bits of the preemption counter */
	bool hook_off[HOOK_NR];		/* by --hooks */
	const char *hook_why[HOOK_NR];	/* why not attached, NULL: attached */
	const char *prog_why[PROG_NR];	/* why not loaded or attached, NULL: it is */
	struct bpf_link *prog_links[PROG_NR];	/* NULL: not attached (of uprobes: by wine_attach) */
	struct bpf_link *threads_link;	/* the thread iterator */
	const char *refused;		/* program that the verifier refused last, or NULL */
} st = {
	.epoll_fd = -1, .signal_fd = -1, .listen_fd = -1, .uevent_fd = -1, .watchdog_fd = -1,
	.lock_fd = -1,
};

static union opt_value {
	s64 n;
	const char *s;		/* points into argv */
} opt[OPT_NR];

/* ===================================================================================== */
/* 5. log and errors                                                                     */
/* ===================================================================================== */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);

/* Linked in place of the malloc family (-Wl,--wrap): proves that the loop allocates nothing. */
void *__wrap_malloc(size_t size)
{
	st.allocs += st.attached;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	st.allocs += st.attached;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	st.allocs += st.attached;
	return __real_realloc(p, size);
}

static void vlog(const char *fmt, va_list ap)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "gamer: ");

	n += vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	n = MIN(n, (int)sizeof(line) - 2);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return;		/* nobody is left to tell */
}

/* One line to stderr; goes on. */
__attribute__((format(printf, 1, 2)))
static void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(fmt, ap);
	va_end(ap);
}

/* One line to stderr, then exit with `code` (sysexits.h). */
__attribute__((noreturn, format(printf, 2, 3)))
static void die(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(fmt, ap);
	va_end(ap);
	exit(code);
}

/* libbpf's messages: its warnings where asked for; a failed step has our own message. */
static int log_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	va_list copy;
	const char *name;
	int i;

	/*
	 * Only here does libbpf tell which program a kernel refused. An optional one is then
	 * left out, see bpf_load().
	 */
	if (level == LIBBPF_WARN && strstr(fmt, "BPF program load failed")) {
		va_copy(copy, ap);
		name = va_arg(copy, const char *);
		for (i = 0; i < PROG_NR; i++)
			if (!strcmp(progs[i].name, name))
				st.refused = progs[i].name;
		va_end(copy);
	}
	if (!opt[OPT_VERBOSE].n || level == LIBBPF_DEBUG)
		return 0;
	return vfprintf(stderr, fmt, ap);
}

/* ===================================================================================== */
/* 6. small I/O                                                                          */
/* ===================================================================================== */

/* CLOCK_MONOTONIC in ns */
static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* First line of a small file without its newline; returns its length or -errno. */
__attribute__((format(printf, 3, 4)))
static int read_line(char *buf, size_t size, const char *fmt, ...)
{
	char path[256];
	va_list ap;
	ssize_t n;
	int fd;

	va_start(ap, fmt);
	n = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	buf[0] = 0;
	if (n >= (ssize_t)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return strlen(buf);
}

/* Whole number in a one-line file, or `fallback`. */
static s64 read_num(s64 fallback, const char *path)
{
	char buf[64], *end;
	s64 n;

	if (read_line(buf, sizeof(buf), "%s", path) <= 0)
		return fallback;
	n = strtoll(buf, &end, 0);
	return end == buf ? fallback : n;
}

static void out_flush(struct out *o)
{
	size_t done = 0;

	while (o->fd >= 0 && done < o->len) {
		ssize_t n = write(o->fd, o->buf + done, o->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			o->failed = true;
			break;
		}
		done += n;
	}
	if (o->fd >= 0)
		o->len = 0;
}

/* The one output to stdout; in .bss, so that it costs the binary nothing. */
static struct out *out_stdout(void)
{
	static struct out o;

	o.fd = STDOUT_FILENO;
	return &o;
}

__attribute__((format(printf, 2, 3)))
static void out_f(struct out *o, const char *fmt, ...)
{
	va_list ap;
	int n, try;

	for (try = 0; try < 2; try++) {
		size_t room = OUT_SIZE - o->len;

		va_start(ap, fmt);
		n = vsnprintf(o->buf + o->len, room, fmt, ap);
		va_end(ap);
		if (n >= 0 && (size_t)n < room) {
			o->len += n;
			return;
		}
		if (o->fd < 0 || !o->len)
			break;
		out_flush(o);
	}
	o->failed = true;
}

/* key NULL inside arrays */
static void json_key(struct json *j, const char *key)
{
	out_f(j->o, "%s", j->comma & (1ULL << j->depth) ? "," : "");
	j->comma |= 1ULL << j->depth;
	if (key)
		out_f(j->o, "\"%s\":", key);
}

static void json_open(struct json *j, const char *key, char bracket)
{
	json_key(j, key);
	out_f(j->o, "%c", bracket);
	j->comma &= ~(1ULL << ++j->depth);
}

static void json_close(struct json *j, char bracket)
{
	j->depth--;
	out_f(j->o, "%c", bracket);
}

static void json_u64(struct json *j, const char *key, u64 v)
{
	json_key(j, key);
	out_f(j->o, "%" PRIu64, v);
}

/* Fixed point with `digits` after it; null where there is no number. */
static void json_f64(struct json *j, const char *key, double v, int digits)
{
	json_key(j, key);
	if (v != v || v > 1e300 || v < -1e300)
		out_f(j->o, "null");
	else
		out_f(j->o, "%.*f", digits, v);
}

/* Bytes outside printable ASCII are escaped: names come from other processes. */
static void json_str(struct json *j, const char *key, const char *s)
{
	json_key(j, key);
	out_f(j->o, "\"");
	for (; *s; s++) {
		u8 c = *s;

		if (c == '"' || c == '\\')
			out_f(j->o, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			out_f(j->o, "\\u%04x", c);
		else
			out_f(j->o, "%c", c);
	}
	out_f(j->o, "\"");
}

/* Every answer begins so. */
static void json_begin(struct json *j, struct out *o, const char *command)
{
	*j = (struct json){ .o = o };
	json_open(j, NULL, '{');
	json_u64(j, "v", 1);
	json_str(j, "command", command);
}

static void json_end(struct json *j)
{
	json_close(j, '}');
	out_f(j->o, "\n");
}

/* Where the socket, status and last_exit live. */
static const char *runtime_dir(void)
{
	const char *dir = getenv("RUNTIME_DIRECTORY");

	return dir && dir[0] == '/' && strlen(dir) < 80 ? dir : "/run/gamer";
}

/* Replace a file of the runtime directory whole, so that a reader never sees half of one. */
static void write_atomic(const char *name, const char *text, size_t len)
{
	char path[128], tmp[136];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", runtime_dir(), name);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || rename(tmp, path))
		note("cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static struct sockaddr_un socket_address(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/gamer.sock", runtime_dir());
	return sa;
}

/* systemd's readiness protocol, without its library. */
__attribute__((format(printf, 1, 2)))
static void sd_notify_(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char text[256];
	size_t len;
	va_list ap;
	int fd, n;

	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	len = strlen(path);
	if (len >= sizeof(sa.sun_path))
		return;
	memcpy(sa.sun_path, path, len);
	if (path[0] == '@')
		sa.sun_path[0] = 0;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, text, MIN(n, (int)sizeof(text) - 1), MSG_NOSIGNAL, (struct sockaddr *)&sa,
	       offsetof(struct sockaddr_un, sun_path) + len);
	close(fd);
}

/* What an epoll event is about; clients are EV_CLIENT + slot, processes EV_PIDFD + slot. */
enum {
	EV_SIGNAL, EV_RING, EV_LISTEN, EV_UEVENT, EV_WATCHDOG, EV_GAME, EV_CLIENT,
	EV_PIDFD = EV_CLIENT + MAX_CLIENTS,
};

static void loop_add(int fd, u64 data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };

	if (fd >= 0 && epoll_ctl(st.epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		die(EX_SOFTWARE, "epoll: %s", strerror(errno));
}

/* Bytes of the UTF-8 character at `s`; 0: it is broken, or one that steers a terminal. */
static size_t utf8_len(const char *s)
{
	const u8 *b = (const u8 *)s;
	size_t len = *b < 0x80 ? 1 : *b >= 0xc2 && *b < 0xe0 ? 2 : *b < 0xf0 ? 3 : *b < 0xf5 ? 4 : 0;
	size_t i;

	for (i = 1; i < len; i++)
		if ((b[i] & 0xc0) != 0x80)
			return 0;
	/* control characters, those of Latin-1 too; forms longer than need be; surrogates */
	if (len == 1 && (*b < 0x20 || *b == 0x7f))
		return 0;
	if (len == 2 && *b == 0xc2 && b[1] < 0xa0)
		return 0;
	if (len == 3 && (*b < 0xe0 || (*b == 0xe0 && b[1] < 0xa0) || (*b == 0xed && b[1] > 0x9f)))
		return 0;
	if (len == 4 && ((*b == 0xf0 && b[1] < 0x90) || (*b == 0xf4 && b[1] > 0x8f)))
		return 0;
	return len;
}

/* Are the `len` bytes at `at`, which go on, that word? */
static bool word_is(const char *at, size_t len, const char *word)
{
	return strlen(word) == len && !strncmp(at, word, len);
}

/* Another program's words, fit for a terminal; returns buf. */
static const char *text_clean(char *buf, size_t size, const char *s)
{
	size_t at = 0, len;

	for (; *s && at + 4 < size; s += MAX(len, 1u)) {
		len = utf8_len(s);
		memcpy(buf + at, len ? s : "?", MAX(len, 1u));
		at += MAX(len, 1u);
	}
	buf[at] = 0;
	return buf;
}

/* ===================================================================================== */
/* 7. topology                                                                           */
/* ===================================================================================== */

/* Read at start and after every hotplug; only what the BPF side needs. */
static struct topology {
	u32 nr_cpus;			/* possible CPUs */
	u32 nr_llcs;
	bool smt, hybrid;
	bool online[MAX_CPUS];
	u16 llc[MAX_CPUS];		/* cache index */
	u16 sibling[MAX_CPUS];		/* itself where none */
	u32 rank[MAX_CPUS];		/* capacity or preferred-core rank, larger is faster */
	u32 llc_cpus[MAX_LLCS];		/* online CPUs of a cache */
} topo;

/* Set[cpu] for every CPU of a list such as "0-3,8". Returns the highest + 1, or -1. */
static int topo_parse_list(const char *list, bool *set)
{
	int highest = 0;
	char *end;

	while (*list) {
		long a = strtol(list, &end, 10), b = a;

		if (end == list || a < 0)
			return -1;
		if (*end == '-') {
			list = end + 1;
			b = strtol(list, &end, 10);
			if (end == list || b < a)
				return -1;
		}
		if (b >= MAX_CPUS)
			return -1;
		for (; a <= b; a++)
			set[a] = true;
		highest = MAX(highest, (int)b + 1);
		if (*end && *end != ',')
			return -1;
		list = *end ? end + 1 : end;
	}
	return highest;
}

/* First CPU of the largest cache that this CPU shares: names the cache. */
static u32 topo_llc_leader(u32 cpu)
{
	char buf[256];
	int index;

	for (index = 9; index >= 0; index--)
		if (read_line(buf, sizeof(buf),
			      "/sys/devices/system/cpu/cpu%u/cache/index%d/shared_cpu_list", cpu,
			      index) > 0)
			return strtoul(buf, NULL, 10);
	/* No cache information (some virtual machines): one cache per package. */
	if (read_line(buf, sizeof(buf), "/sys/devices/system/cpu/cpu%u/topology/package_cpus_list",
		      cpu) > 0)
		return strtoul(buf, NULL, 10);
	return 0;
}

static u32 topo_rank(u32 cpu)
{
	static const char *const files[] = {
		"cpufreq/amd_pstate_prefcore_ranking", "cpu_capacity", "acpi_cppc/highest_perf",
	};
	char path[128];
	size_t i;
	s64 n;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/%s", cpu, files[i]);
		n = read_num(-1, path);
		if (n > 0)
			return n;
	}
	return 0;
}

static void topo_read_cpu(u32 cpu, u32 *leaders)
{
	char buf[256];
	u32 leader, i, first;

	leader = topo_llc_leader(cpu);
	for (i = 0; i < topo.nr_llcs && leaders[i] != leader; i++)
		;
	if (i == topo.nr_llcs) {
		if (i == MAX_LLCS)
			die(EX_UNAVAILABLE, "more than %d last-level caches", MAX_LLCS);
		leaders[topo.nr_llcs++] = leader;
	}
	topo.llc[cpu] = i;
	topo.llc_cpus[i]++;
	topo.sibling[cpu] = cpu;
	if (read_line(buf, sizeof(buf), "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
		      cpu) > 0) {
		bool set[MAX_CPUS] = { 0 };

		topo_parse_list(buf, set);
		for (first = 0; first < topo.nr_cpus; first++)
			if (set[first] && first != cpu) {
				topo.sibling[cpu] = first;
				topo.smt = true;
				break;
			}
	}
	topo.rank[cpu] = topo_rank(cpu);
}

static void topo_read(void)
{
	static bool possible[MAX_CPUS];
	u32 leaders[MAX_LLCS], cpu, best = 0, worst = ~0u;
	char buf[1024];
	int n;

	memset(&topo, 0, sizeof(topo));
	if (read_line(buf, sizeof(buf), "/sys/devices/system/cpu/possible") <= 0)
		die(EX_UNAVAILABLE, "cannot read /sys/devices/system/cpu/possible: is /sys mounted?");
	n = topo_parse_list(buf, possible);
	if (n <= 0)
		die(EX_UNAVAILABLE, "more than %d CPUs (%s)", MAX_CPUS, buf);
	topo.nr_cpus = n;
	if (read_line(buf, sizeof(buf), "/sys/devices/system/cpu/online") <= 0 ||
	    topo_parse_list(buf, topo.online) <= 0)
		memcpy(topo.online, possible, sizeof(possible));
	for (cpu = 0; cpu < topo.nr_cpus; cpu++) {
		if (!topo.online[cpu])
			continue;
		topo_read_cpu(cpu, leaders);
		best = MAX(best, topo.rank[cpu]);
		worst = MIN(worst, topo.rank[cpu]);
	}
	topo.hybrid = worst != best;
	if (st.left_out & 1U << PART_SMT)
		topo.smt = false;
	if (st.left_out & 1U << PART_LLC) {
		memset(topo.llc, 0, sizeof(topo.llc));
		topo.llc_cpus[0] = topo.nr_cpus;
		topo.nr_llcs = 1;
	}
	if (opt[OPT_FAST_CPUS].s) {
		bool fast[MAX_CPUS] = { 0 };

		if (topo_parse_list(opt[OPT_FAST_CPUS].s, fast) <= 0)
			die(EX_USAGE, "--fast-cpus: '%s' is not a list of CPUs such as 0-3,8",
			    opt[OPT_FAST_CPUS].s);
		for (cpu = 0; cpu < topo.nr_cpus; cpu++)
			topo.rank[cpu] = fast[cpu];
		topo.hybrid = true;
	}
}

/* A CPU is fast where its rank is within 1/8 of the best. */
static bool topo_is_fast(u32 cpu)
{
	u32 best = 0, i;

	for (i = 0; i < topo.nr_cpus; i++)
		best = MAX(best, topo.rank[i]);
	return topo.online[cpu] && topo.rank[cpu] >= best - best / 8;
}

/* Next online CPU after `cpu` in cyclic order whose cache is `llc`; `cpu` where none. */
static u32 topo_next(u32 cpu, u32 llc)
{
	u32 i, next = cpu;

	for (i = 0; i < topo.nr_cpus; i++) {
		next = next + 1 < topo.nr_cpus ? next + 1 : 0;
		if (topo.online[next] && topo.llc[next] == llc)
			return next;
	}
	return cpu;
}

/* Hand the topology to BPF as constants. */
static void topo_to_bpf(struct gamer_bpf *skel)
{
	u32 cpu, llc;

	skel->rodata->nr_cpu_ids = topo.nr_cpus;
	skel->rodata->nr_llcs = topo.nr_llcs;
	skel->rodata->smt_on = topo.smt;
	skel->rodata->hybrid = topo.hybrid;
	for (cpu = 0; cpu < topo.nr_cpus; cpu++) {
		llc = topo.llc[cpu];
		skel->rodata->cpu_llc[cpu] = llc;
		skel->rodata->cpu_sibling[cpu] = topo.sibling[cpu];
		skel->rodata->cpu_next[cpu] = topo_next(cpu, llc);
		skel->rodata->cpu_far[cpu] = topo_next(cpu, (llc + 1) % topo.nr_llcs);
		skel->rodata->cpu_fast[cpu] = topo_is_fast(cpu);
	}
	for (llc = 0; llc < topo.nr_llcs; llc++)
		skel->rodata->llc_depth_recip[llc] = 1024 / MAX(topo.llc_cpus[llc], 1u);
}

/* True on battery: some supply is a battery that discharges. */
static bool power_on_battery(void)
{
	/* getdents64, because opendir() allocates and this runs after attach too. */
	int fd = open("/sys/class/power_supply", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool battery = false;
	char dir[2048], status[32];
	long n, at;

	while (fd >= 0 && (n = syscall(SYS_getdents64, fd, dir, sizeof(dir))) > 0) {
		for (at = 0; at < n;) {
			struct dirent *e = (struct dirent *)(dir + at);

			if (read_line(status, sizeof(status), "/sys/class/power_supply/%s/status",
				      e->d_name) > 0 && !strcmp(status, "Discharging"))
				battery = true;
			at += e->d_reclen;
		}
	}
	if (fd >= 0)
		close(fd);
	return battery;
}

/* What `auto` means now: the firmware's profile where there is one, else the power source. */
static enum profile power_profile(void)
{
	char buf[64];

	if (opt[OPT_PROFILE].n != PROFILE_AUTO)
		return opt[OPT_PROFILE].n;
	if (read_line(buf, sizeof(buf), "/sys/firmware/acpi/platform_profile") > 0) {
		if (!strcmp(buf, "performance"))
			return PROFILE_PERFORMANCE;
		if (!strcmp(buf, "low-power") || !strcmp(buf, "quiet"))
			return PROFILE_POWERSAVE;
	}
	return power_on_battery() ? PROFILE_BALANCED : PROFILE_PERFORMANCE;
}

/* Frequency targets by importance, out of CPUPERF_ONE. */
static void power_apply(void)
{
	static const u16 target[][PRIO_FOREIGN + 1] = {
		[PROFILE_PERFORMANCE] = { 1024, 1024, 1024, 1024, 1024 },
		[PROFILE_BALANCED] = { 768, 768, 896, 1024, 1024 },
		[PROFILE_POWERSAVE] = { 448, 448, 640, 832, 1024 },
	};
	size_t i;

	st.profile = power_profile();
	for (i = 0; i <= PRIO_FOREIGN; i++)
		st.skel->bss->perf_target[i] = target[st.profile][i];
}

/* ===================================================================================== */
/* 8. load and attach                                                                    */
/* ===================================================================================== */

/* Name of the attached sched_ext scheduler into buf; false where none is. */
static bool scx_attached(char *buf, size_t size)
{
	char state[32];

	if (read_line(state, sizeof(state), SCX_DIR "state") <= 0 || !strcmp(state, "disabled"))
		return false;
	if (read_line(buf, size, SCX_DIR "root/ops") <= 0)
		snprintf(buf, size, "unknown");
	return true;
}

/* The kernel's BTF, loaded for probes; the caller frees it. NULL: `why` says why. */
static struct btf *kernel_btf(const char **why)
{
	struct btf *btf;

	if (access("/sys/kernel/btf/vmlinux", R_OK)) {
		*why = "no BTF (/sys/kernel/btf/vmlinux)";
		return NULL;
	}
	btf = btf__load_vmlinux_btf();
	if (!btf)
		*why = "its BTF cannot be parsed";
	return btf;
}

/* Value of an enumerator, searched in one enum type. False where it does not exist. */
static bool btf_enum_value(const struct btf *btf, const char *type, const char *name, u64 *value)
{
	const struct btf_type *t;
	s32 id = btf__find_by_name_kind(btf, type, BTF_KIND_ENUM64);
	int i;

	if (id > 0) {
		t = btf__type_by_id(btf, id);
		for (i = 0; i < btf_vlen(t); i++)
			if (!strcmp(btf__name_by_offset(btf, btf_enum64(t)[i].name_off), name)) {
				*value = btf_enum64_value(&btf_enum64(t)[i]);
				return true;
			}
		return false;
	}
	id = btf__find_by_name_kind(btf, type, BTF_KIND_ENUM);
	if (id <= 0)
		return false;
	t = btf__type_by_id(btf, id);
	for (i = 0; i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_enum(t)[i].name_off), name)) {
			*value = (u32)btf_enum(t)[i].val;
			return true;
		}
	return false;
}

static bool btf_has_member(const struct btf *btf, const char *type, const char *member)
{
	s32 id = btf__find_by_name_kind(btf, type, BTF_KIND_STRUCT);
	const struct btf_type *t;
	int i;

	if (id <= 0)
		return false;
	t = btf__type_by_id(btf, id);
	for (i = 0; i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(t)[i].name_off), member))
			return true;
	return false;
}

/*
 * From 7.0 some kfuncs take an argument that programs do not see; BTF must then list the
 * function without it beside a twin NAME_impl. A kernel built with tools too old for that
 * shows the hidden argument and has no twin, and its verifier refuses every call.
 */
static bool btf_malformed_kfunc(const struct btf *btf, const char *name)
{
	const struct btf_type *t;
	char twin[128];
	s32 id = btf__find_by_name_kind(btf, name, BTF_KIND_FUNC);
	int n;

	snprintf(twin, sizeof(twin), "%s_impl", name);
	if (id <= 0 || btf__find_by_name_kind(btf, twin, BTF_KIND_FUNC) > 0)
		return false;
	t = btf__type_by_id(btf, btf__type_by_id(btf, id)->type);
	n = btf_vlen(t);
	if (!n)
		return false;
	t = btf__type_by_id(btf, btf_params(t)[n - 1].type);
	while (t && (btf_is_ptr(t) || btf_is_mod(t)))
		t = btf__type_by_id(btf, t->type);
	return t && btf_is_struct(t) && !strcmp(btf__name_by_offset(btf, t->name_off), "bpf_prog_aux");
}

/* Kernels without KALLSYMS_ALL show variables in BTF that programs then cannot use. */
static bool var_has_address(s32 btf_id)
{
	struct bpf_insn insns[] = {
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .src_reg = BPF_PSEUDO_BTF_ID, .imm = btf_id },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, NULL, "GPL", insns, ARRAY_SIZE(insns),
			       NULL);

	if (fd >= 0)
		close(fd);
	/* without permission to load nothing is known: check then says "available" */
	return fd >= 0 || errno == EPERM || errno == EACCES;
}

/*
 * The bits of the preemption counter that mean interrupt context: hard interrupts, NMIs, and
 * a softirq being served. 7.3 moved them and made the counter 8 bytes; before 6.15 it was in
 * a struct. 0: some other layout, better not read.
 */
static u32 btf_irq_mask(const struct btf *btf)
{
	s32 id = btf__find_by_name_kind(btf, "__preempt_count", BTF_KIND_VAR);
	s64 size;

	if (id <= 0) {
		id = btf__find_by_name_kind(btf, "pcpu_hot", BTF_KIND_VAR);
		return id > 0 && var_has_address(id) ? 0x00ff0100 : 0;
	}
	if (!var_has_address(id))
		return 0;
	size = btf__resolve_size(btf, btf__type_by_id(btf, id)->type);
	return size == 4 ? 0x00ff0100 : size == 8 ? 0xff000100 : 0;
}

/* kfuncs that nothing can replace. */
static const char *const required_kfuncs[] = {
	"scx_bpf_create_dsq", "scx_bpf_select_cpu_dfl", "scx_bpf_dsq_nr_queued",
	"scx_bpf_test_and_clear_cpu_idle", "scx_bpf_pick_idle_cpu", "bpf_cpumask_test_cpu",
};

/* Is function `name` in the kernel's BTF, or in that of the module where it may be? */
static bool btf_has_func(struct btf *btf, const char *name, const char *module)
{
	char path[64];
	struct btf *mod;
	bool found;

	if (btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0)
		return true;
	snprintf(path, sizeof(path), "/sys/kernel/btf/%s", module ? module : "");
	if (!module || access(path, R_OK))
		return false;
	mod = btf__load_module_btf(module, btf);
	found = mod && btf__find_by_name_kind(mod, name, BTF_KIND_FUNC) > 0;
	btf__free(mod);
	return found;
}

/*
 * Does the kernel take programs of this kind at all? Some refuse trampolines (lockdown), and
 * one refused program would fail the load of all. So an empty one is tried first.
 */
static const char *prog_kind_probe(const struct btf *btf, enum prog_kind kind)
{
	static const char *result[PROG_UPROBE + 1];
	static bool known[PROG_UPROBE + 1];
	static const struct bpf_insn empty[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	const char *func = kind == PROG_LSM ? "bpf_lsm_bprm_committed_creds" : "udp_sendmsg";
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		    .expected_attach_type = kind == PROG_LSM ? BPF_LSM_MAC : BPF_TRACE_FENTRY);
	char list[256];
	int fd;

	if (known[kind] || (kind != PROG_FENTRY && kind != PROG_LSM))
		return result[kind];
	known[kind] = true;
	/* Without "bpf" in this list its hooks are attached and never called. */
	if (kind == PROG_LSM && (read_line(list, sizeof(list), "/sys/kernel/security/lsm") <= 0 ||
				 !strstr(list, "bpf")))
		return result[kind] = "BPF is not among this kernel's active LSMs";
	opts.attach_btf_id = btf__find_by_name_kind(btf, func, BTF_KIND_FUNC);
	fd = bpf_prog_load(kind == PROG_LSM ? BPF_PROG_TYPE_LSM : BPF_PROG_TYPE_TRACING, NULL,
			   "GPL", empty, ARRAY_SIZE(empty), &opts);
	if (fd < 0)
		return result[kind] = errno == EPERM || errno == EACCES ?
				      "the kernel does not permit it" : "the kernel refuses its kind";
	close(fd);
	return NULL;
}

/* The first of a kprobe's functions that this kernel has, or NULL. */
static const char *prog_kprobe_target(const struct prog *p)
{
	static char found[64];
	char line[256], name[64];
	const char *at;
	FILE *f;

	snprintf(line, sizeof(line), "/sys/module/%s", p->module);
	f = access(line, F_OK) ? NULL : fopen("/proc/kallsyms", "re");
	found[0] = 0;
	while (f && !found[0] && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %*s %63s", name) != 1)
			continue;
		at = strstr(p->target, name);
		if (at && (at == p->target || at[-1] == ' ') &&
		    strchr(" ", at[strlen(name)]))
			snprintf(found, sizeof(found), "%s", name);
	}
	if (f)
		fclose(f);
	return found[0] ? found : NULL;
}

/* Why a program cannot be had, or NULL. */
static const char *prog_probe(struct btf *btf, const struct prog *p)
{
	char name[64];

	switch ((enum prog_kind)p->kind) {
	case PROG_TP:
		snprintf(name, sizeof(name), "btf_trace_%s", p->target);
		return btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF) > 0 ? NULL :
		       "not in this kernel";
	case PROG_FENTRY:
		if (!btf_has_func(btf, p->target, p->module))
			return "not in this kernel, or its module is not loaded";
		return prog_kind_probe(btf, p->kind);
	case PROG_LSM:
		return prog_kind_probe(btf, p->kind);
	case PROG_KPROBE:
		return prog_kprobe_target(p) ? NULL : "no such driver is loaded";
	case PROG_UPROBE:
		return access("/sys/bus/event_source/devices/uprobe", F_OK) ?
		       "this kernel has no uprobes" : NULL;
	}
	return NULL;
}

/*
 * Is this program wanted? Page flips are seen in the same function as GPU submits, and new
 * names of programs are of interest even where those of threads are not.
 */
static bool prog_wanted(u32 i)
{
	if (progs[i].hook == HOOK_RUNTIME && !opt[OPT_OBSERVE].n)
		return false;		/* the scheduler's callbacks see it all */
	if (i == PROG_game_exec && !st.hook_why[HOOK_GAME])
		return false;		/* LSM told already */
	return !st.hook_off[progs[i].hook] || (i == PROG_gpu_ioctl && !st.hook_off[HOOK_FRAME]) ||
	       (i == PROG_name_changed && !(st.hook_off[HOOK_GAME] && st.hook_off[HOOK_EXEC]));
}

/* Why a hook that lives by its programs cannot be had: it can where one of them can. */
static const char *hook_why_progs(enum hook_id id)
{
	const char *why = NULL;
	int i;

	if (st.hook_off[id])
		return "switched off";
	for (i = 0; i < PROG_NR; i++) {
		if (progs[i].hook != id)
			continue;
		if (!st.prog_why[i])
			return NULL;
		why = why ? why : st.prog_why[i];
	}
	return why;
}

/* Why a hook cannot be had, or NULL. */
static const char *hook_probe(struct btf *btf, enum hook_id id)
{
	const struct hook *h = &hooks[id];
	u64 value;

	if (st.hook_off[id] && h->need != NEED_PROG)
		return "switched off";
	switch ((enum need)h->need) {
	case NEED_TYPE:
		if (btf__find_by_name_kind(btf, h->what, BTF_KIND_STRUCT) > 0)
			return NULL;
		break;
	case NEED_FUNC:
		if (btf_malformed_kfunc(btf, h->what))
			return "malformed in this kernel's BTF";
		if (btf__find_by_name_kind(btf, h->what, BTF_KIND_FUNC) > 0)
			return NULL;
		break;
	case NEED_MEMBER:
		if (btf_has_member(btf, h->what, h->part))
			return NULL;
		break;
	case NEED_CONST:
		if (btf_enum_value(btf, h->what, h->part, &value))
			return NULL;
		break;
	case NEED_IRQ_BITS:
		st.irq_mask = btf_irq_mask(btf);
		if (st.irq_mask)
			return NULL;
		break;
	case NEED_PROG:
		return hook_why_progs(id);
	}
	return "not in this kernel";
}

/* --hooks=-a,+b: switches optional hooks. */
static void hooks_parse(const char *list)
{
	while (list && *list) {
		size_t len = strcspn(list, ",");
		bool off = *list == '-';
		const char *name = list + (*list == '-' || *list == '+');
		int i;

		for (i = 0; i < HOOK_NR; i++)
			if (word_is(name, len - (name - list), hooks[i].name))
				break;
		if (i == HOOK_NR)
			die(EX_USAGE, "--hooks: no hook is called '%.*s' (see gamer check)",
			    (int)(len - (name - list)), name);
		if (off && !hooks[i].optional)
			die(EX_USAGE, "--hooks: '%s' cannot be switched off", hooks[i].name);
		st.hook_off[i] = off;
		list += len + (list[len] == ',');
	}
}

/* --without=a,b: parts of the scheduler that are left out. */
static void parts_parse(const char *list)
{
	static const char *const names[] = {
#define X(id, name) #name,
		PARTS(X)
#undef X
	};
#define X(id, name) " " #name
	static const char all[] = PARTS(X);
#undef X
	size_t len, i;

	for (st.left_out = 0; list && *list; list += len + (list[len] == ',')) {
		len = strcspn(list, ",");
		for (i = 0; i < PART_NR; i++)
			if (word_is(list, len, names[i]))
				break;
		if (i == PART_NR)
			die(EX_USAGE, "--without: '%.*s' is none of%s", (int)len, list, all);
		st.left_out |= 1U << i;
	}
}

/* Fill st.kernel_const and st.hook_why; the first thing that makes scheduling impossible. */
static const char *kernel_probe(struct btf *btf)
{
	static char why[160];
	static const struct { const char *name, *type; bool required; } consts[] = {
#define X(name, type, required) { #name, #type, required },
		KERNEL_CONSTS(X)
#undef X
	};
	size_t i;

	for (i = 0; i < PROG_NR; i++)
		st.prog_why[i] = prog_probe(btf, &progs[i]);
	for (i = 0; i < HOOK_NR; i++)
		st.hook_why[i] = hook_probe(btf, i);
	if (opt[OPT_OBSERVE].n) {
		st.hook_why[HOOK_SCHED] = st.hook_why[HOOK_CGROUP] = st.hook_why[HOOK_CPUPERF] =
			st.hook_why[HOOK_KICK] = st.hook_why[HOOK_IMMED] = "observing only";
		return NULL;
	}
	if (st.hook_why[HOOK_SCHED])
		return "no sched_ext";
	for (i = 0; i < ARRAY_SIZE(required_kfuncs); i++)
		if (btf_malformed_kfunc(btf, required_kfuncs[i])) {
			snprintf(why, sizeof(why),
				 "malformed BTF: %s shows a hidden argument (built with old tools)",
				 required_kfuncs[i]);
			return why;
		}
	for (i = 0; i < ARRAY_SIZE(consts); i++)
		if (!btf_enum_value(btf, consts[i].type, consts[i].name, &st.kernel_const[i]) &&
		    consts[i].required) {
			snprintf(why, sizeof(why), "its BTF has no %s", consts[i].name);
			return why;
		}
	return NULL;
}

/* Capabilities that scheduling needs and this process lacks, or NULL. */
static const char *missing_capability(void)
{
	static const struct { int bit; const char *name; } need[] = {
		{ 39, "CAP_BPF" }, { 38, "CAP_PERFMON" },
	};
	static char names[64];
	char buf[2048], *at;
	u64 caps = 0;
	size_t i;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	buf[MAX(n, 0)] = 0;
	at = strstr(buf, "CapEff:");
	if (!at)
		return geteuid() ? "CAP_BPF and CAP_PERFMON" : NULL;
	caps = strtoull(at + 7, NULL, 16);
	if (caps & (1ULL << 21))	/* CAP_SYS_ADMIN includes both */
		return NULL;
	names[0] = 0;
	for (i = 0; i < ARRAY_SIZE(need); i++)
		if (!(caps & (1ULL << need[i].bit)))
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
				 names[0] ? " and " : "", need[i].name);
	return names[0] ? names : NULL;
}

static void bpf_unload(void)
{
	int i;

	st.attached = false;
	for (i = 0; i < PROG_NR; i++) {
		bpf_link__destroy(st.prog_links[i]);
		st.prog_links[i] = NULL;
	}
	bpf_link__destroy(st.threads_link);
	ring_buffer__free(st.ring);
	bpf_link__destroy(st.link);
	gamer_bpf__destroy(st.skel);
	st.threads_link = NULL;
	st.ring = NULL;
	st.link = NULL;
	st.skel = NULL;
}

static void game_hint(const struct event_hint *e);

static int on_event(void *ctx, void *data, size_t size)
{
	(void)ctx;
	if (size == sizeof(struct event_hint)) {
		game_hint(data);
	} else if (size == sizeof(struct event_exit)) {
		memcpy(&st.exit_event, data, size);
		st.exited = true;
	}
	return 0;
}

static struct prefix prefix_of(const char *text)
{
	struct prefix p = { 0 };

	memcpy(p.value, text, MIN(strlen(text), sizeof(p.value)));
	memset(p.mask, 0xff, MIN(strlen(text), sizeof(p.mask)));
	return p;
}

/* The name tables, in the form that BPF compares by. */
static void bpf_configure_names(struct gamer_bpf *skel)
{
	static const struct { const char *name; u8 role; } threads[] = {
#define X(name, role) { name, ROLE_##role },
		THREAD_NAMES(X)
#undef X
	};
	static const char *const programs[] = {
#define X(name) name,
		PROGRAM_NAMES(X)
#undef X
	};
	u32 i;

	_Static_assert(ARRAY_SIZE(threads) <= THREAD_NAME_MAX, "room for thread names");
	_Static_assert(ARRAY_SIZE(programs) <= PROGRAM_NAME_MAX, "room for program names");
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		skel->rodata->thread_names[i] = prefix_of(threads[i].name);
		skel->rodata->thread_name_roles[i] = threads[i].role;
	}
	for (i = 0; i < ARRAY_SIZE(programs); i++)
		skel->rodata->program_names[i] = prefix_of(programs[i]);
}

/* What only a scheduler has: without one its programs and maps are left out. */
static void bpf_configure_sched(struct gamer_bpf *skel)
{
	struct bpf_program *prog;

	if (opt[OPT_OBSERVE].n) {
		bpf_map__set_autocreate(skel->maps.gamer_ops, false);
		bpf_map__set_autocreate(skel->maps.cgroup_weights, false);
		bpf_object__for_each_program(prog, skel->obj)
			if (bpf_program__type(prog) == BPF_PROG_TYPE_STRUCT_OPS)
				bpf_program__set_autoload(prog, false);
		return;
	}
	if (!st.hook_why[HOOK_IMMED])
		skel->struct_ops.gamer_ops->cpu_release = NULL;	/* deprecated there, and warned of */
	else
		skel->rodata->k_SCX_ENQ_IMMED = 0;
	if (st.hook_why[HOOK_CGROUP]) {
		skel->struct_ops.gamer_ops->cgroup_init = NULL;
		skel->struct_ops.gamer_ops->cgroup_move = NULL;
		skel->struct_ops.gamer_ops->cgroup_set_weight = NULL;
		bpf_map__set_autocreate(skel->maps.cgroup_weights, false);
	} else {
		skel->rodata->have_cgroups = 1;
	}
	/* By default such tasks go past us, to the end of their CPU's queue and for 20 ms. */
	skel->struct_ops.gamer_ops->flags =
		st.kernel_const[KCONST_SCX_OPS_ENQ_EXITING] |
		st.kernel_const[KCONST_SCX_OPS_ENQ_MIGRATION_DISABLED];
	skel->rodata->have_kick = !st.hook_why[HOOK_KICK];
	skel->rodata->perf_control = !st.hook_why[HOOK_CPUPERF] &&
				     !access("/sys/devices/system/cpu/cpu0/cpufreq", F_OK);
	/* The kernel refuses to attach where CPUs came or went since this was read. */
	skel->struct_ops.gamer_ops->hotplug_seq = read_num(0, SCX_DIR "hotplug_seq");
}

/* Set what the kernel offers and the hooks chosen into the not yet loaded object. */
static void bpf_configure(struct gamer_bpf *skel)
{
	u32 i;

#define X(name, type, required) skel->rodata->k_##name = st.kernel_const[KCONST_##name];
	KERNEL_CONSTS(X)
#undef X
	bpf_configure_sched(skel);
	bpf_configure_names(skel);
	skel->rodata->left_out = st.left_out;
	skel->rodata->observing = opt[OPT_OBSERVE].n;
	skel->rodata->irq_mask = st.hook_why[HOOK_IRQ] ? 0 : st.irq_mask;
	skel->rodata->have_patterns = !st.hook_why[HOOK_RUNTIME];
	skel->rodata->have_names = !st.hook_off[HOOK_NAME];
	skel->rodata->have_gpu = !st.hook_why[HOOK_GPU];
	skel->rodata->have_frames = !st.hook_why[HOOK_FRAME];
	for (i = 0; i < PROG_NR; i++)
		bpf_program__set_autoload(bpf_object__find_program_by_name(skel->obj, progs[i].name),
					  !st.prog_why[i] && prog_wanted(i));
	topo_to_bpf(skel);
}

/* Leave out a program that could not be loaded or attached; its hook may go with it. */
static void prog_drop(u32 i, const char *why)
{
	st.prog_why[i] = why;
	st.hook_why[progs[i].hook] = hook_why_progs(progs[i].hook);
	note("hook %s: %s: %s", hooks[progs[i].hook].name, progs[i].name, why);
}

/*
 * Open the object, without the preemption counter where programs cannot use it: a weak symbol
 * that BTF shows and the kernel cannot resolve fails the load even in code that never runs.
 * So its name is spoilt in a copy of the object, and it counts as absent. The copy must live
 * until the load is over; NULL: none was needed.
 */
static struct gamer_bpf *bpf_open(char **copy)
{
	static const char *const names[] = { "__preempt_count", "pcpu_hot" };
	struct gamer_bpf *skel;
	char *at;
	u32 i;

	*copy = NULL;
	if (!st.hook_why[HOOK_IRQ])
		return gamer_bpf__open();
	skel = calloc(1, sizeof(*skel));
	if (!skel || gamer_bpf__create_skeleton(skel))
		return NULL;
	*copy = malloc(skel->skeleton->data_sz);
	if (!*copy)
		return NULL;
	memcpy(*copy, skel->skeleton->data, skel->skeleton->data_sz);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		for (at = *copy; (at = memmem(at, *copy + skel->skeleton->data_sz - at, names[i],
					      strlen(names[i]) + 1)); at++)
			*at = 'X';
	skel->skeleton->data = *copy;
	if (bpf_object__open_skeleton(skel->skeleton, NULL))
		return NULL;
	skel->struct_ops.gamer_ops = bpf_map__initial_value(skel->maps.gamer_ops, NULL);
	return skel;
}

/* Open and verify once. 0, or -errno; st.refused names an optional program that is to blame. */
static int bpf_try_load(void)
{
	char *copy;
	int err;

	st.refused = NULL;
	st.skel = bpf_open(&copy);
	if (!st.skel)
		die(EX_SOFTWARE, "cannot open the BPF object: %s", strerror(errno));
	bpf_configure(st.skel);
	err = gamer_bpf__load(st.skel);
	free(copy);
	if (err) {
		gamer_bpf__destroy(st.skel);
		st.skel = NULL;
	}
	return err;
}

/* With -v: what each program cost the verifier, in instructions that it walked. */
static void bpf_show_cost(void)
{
	struct bpf_prog_info info;
	struct bpf_program *prog;
	u32 len;

	bpf_object__for_each_program(prog, st.skel->obj) {
		memset(&info, 0, sizeof(info));
		len = sizeof(info);
		if (!bpf_prog_get_info_by_fd(bpf_program__fd(prog), &info, &len))
			note("verified %s: %u instructions, %u bytes", bpf_program__name(prog),
			     info.verified_insns, info.xlated_prog_len);
	}
}

/* Open, verify and prepare; dies with the exit code that fits. */
static void bpf_load(void)
{
	u64 start = now_ns();
	int err, i;

	while ((err = bpf_try_load()) && st.refused)
		for (i = 0; i < PROG_NR; i++)
			if (progs[i].name == st.refused)
				prog_drop(i, "the kernel refused it");
	if (err == -EPERM || err == -EACCES)
		die(EX_NOPERM, "the kernel does not permit it to load BPF programs (lockdown, or a missing capability)");
	if (err)
		die(EX_SOFTWARE, "the kernel refused the BPF programs: %s (gamer run -v shows why)",
		    strerror(-err));
	if (opt[OPT_VERBOSE].n)
		bpf_show_cost();
	power_apply();
	st.ring = ring_buffer__new(bpf_map__fd(st.skel->maps.events), on_event, NULL, NULL);
	if (!st.ring)
		die(EX_SOFTWARE, "cannot map the event ring: %s", strerror(errno));
	st.load_us = (now_ns() - start) / NSEC_PER_USEC;
}

/* Attach the optional programs; one that fails is left out. Uprobes wait for their program. */
static void hooks_attach(void)
{
	struct bpf_program *prog;
	u32 i;

	for (i = 0; i < PROG_NR; i++) {
		prog = bpf_object__find_program_by_name(st.skel->obj, progs[i].name);
		if (!bpf_program__autoload(prog) || progs[i].kind == PROG_UPROBE)
			continue;
		st.prog_links[i] = progs[i].kind == PROG_KPROBE ?
			bpf_program__attach_kprobe(prog, false, prog_kprobe_target(&progs[i])) :
			bpf_program__attach(prog);
		if (!st.prog_links[i])
			prog_drop(i, "could not be attached");
	}
	st.threads_link = bpf_program__attach_iter(st.skel->progs.threads, NULL);
	if (!st.threads_link)
		note("no thread iterator, so threads cannot be listed: %s", strerror(errno));
}

/* Returns 0, or -errno where the kernel did not let us attach. */
static int bpf_attach(void)
{
	u64 start = now_ns();
	char name[128];

	st.exited = false;
	if (!opt[OPT_OBSERVE].n) {
		st.link = bpf_map__attach_struct_ops(st.skel->maps.gamer_ops);
		if (!st.link) {
			int err = errno;

			if (err == EBUSY && scx_attached(name, sizeof(name)))
				die(EX_TEMPFAIL, "scheduler '%s' is attached", name);
			return -err;
		}
	}
	hooks_attach();
	st.attach_at_ns = now_ns();
	st.attach_us = (st.attach_at_ns - start) / NSEC_PER_USEC;
	return 0;
}

/*
 * Every thread that belongs to the game or serves it, one call each. This is also what gives
 * all threads of a new game their role at once: the iterator settles whom it meets.
 */
static void threads_each(void (*fn)(const struct thread_row *row, void *ctx), void *ctx)
{
	static struct thread_row rows[64];
	int fd = st.threads_link ? bpf_iter_create(bpf_link__fd(st.threads_link)) : -1;
	size_t have = 0, i;
	ssize_t n;

	while (fd >= 0 && (n = read(fd, (char *)rows + have, sizeof(rows) - have)) > 0) {
		have += n;
		for (i = 0; i < have / sizeof(*rows); i++)
			if (fn)
				fn(&rows[i], ctx);
		memmove(rows, &rows[i], have % sizeof(*rows));
		have %= sizeof(*rows);
	}
	if (fd >= 0)
		close(fd);
}

static void threads_settle(void)
{
	threads_each(NULL, NULL);
}

/* ===================================================================================== */
/* 9. wine                                                                               */
/* ===================================================================================== */

/*
 * Windows programs tell the importance of their threads by two system calls of Wine's
 * ntdll.so. Each build of Wine brings its own, so the uprobes go to the file that a Windows
 * program has mapped: that of the first helper process of Wine, since a game tells within
 * 100 ms of its start. They stay until the last such process ends, and on the distribution's
 * own file always. All files here belong to users: what is read may be broken, hostile, or
 * change under us, hence pread() and no mapping.
 */

#define WINE_FILES	8	/* the distribution's and the game's own */
#define ELF_SYMBOLS	65536	/* more than any ntdll.so has; bounds the time for a hostile one */

/* Rows of the table of programs: what goes on which function. */
static const u8 wine_progs[] = { PROG_wine_set_thread, PROG_wine_set_process };

/* One ntdll.so. The attached uprobes pin it, so its inode cannot come to mean another. */
static struct wine_file {
	dev_t dev;			/* by fstat(); wine_attach() */
	ino_t ino;
	int link[ARRAY_SIZE(wine_progs)];	/* uprobe of each program or -1; wine_attach() */
	u32 users;			/* processes, and gamer for the distribution's; 0: free;
					 * wine_attach(), wine_release() */
} wine_files[WINE_FILES];

static bool elf_read(int fd, void *to, size_t size, u64 at)
{
	return pread(fd, to, size, at) == (ssize_t)size;
}

/* Where an address of the program lies in its file; 0: in no part that is code. */
static u64 elf_offset(int fd, const Elf64_Ehdr *eh, u64 addr)
{
	Elf64_Phdr ph;
	u32 i;

	for (i = 0; i < eh->e_phnum; i++) {
		if (!elf_read(fd, &ph, sizeof(ph), eh->e_phoff + i * sizeof(ph)))
			return 0;
		if (ph.p_type == PT_LOAD && (ph.p_flags & PF_X) && addr >= ph.p_vaddr &&
		    addr - ph.p_vaddr < ph.p_filesz)
			return addr - ph.p_vaddr + ph.p_offset;
	}
	return 0;
}

/* The dynamic symbol table and its names; false: none, or no 64-bit x86 ELF file. */
static bool elf_dynsym(int fd, Elf64_Ehdr *eh, Elf64_Shdr *syms, Elf64_Shdr *names)
{
	static const u8 ident[] = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB };
	u32 i;

	if (!elf_read(fd, eh, sizeof(*eh), 0) || memcmp(eh->e_ident, ident, sizeof(ident)) ||
	    eh->e_machine != EM_X86_64 || eh->e_shentsize != sizeof(*syms) ||
	    eh->e_phentsize != sizeof(Elf64_Phdr))
		return false;
	for (i = 0; i < eh->e_shnum; i++) {
		if (!elf_read(fd, syms, sizeof(*syms), eh->e_shoff + i * sizeof(*syms)))
			return false;
		if (syms->sh_type == SHT_DYNSYM)
			return syms->sh_link < eh->e_shnum &&
			       elf_read(fd, names, sizeof(*names),
					eh->e_shoff + syms->sh_link * sizeof(*names));
	}
	return false;
}

/* File offset of a function that a shared object exports; 0: it does not. */
static u64 elf_function(int fd, const char *name)
{
	size_t len = strlen(name) + 1;
	Elf64_Shdr syms, names;
	char found[32];
	Elf64_Ehdr eh;
	Elf64_Sym sym;
	u64 i;

	if (!elf_dynsym(fd, &eh, &syms, &names) || len > sizeof(found))
		return 0;
	for (i = 0; i < MIN(syms.sh_size / sizeof(sym), ELF_SYMBOLS); i++) {
		if (!elf_read(fd, &sym, sizeof(sym), syms.sh_offset + i * sizeof(sym)))
			return 0;
		if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC && sym.st_shndx != SHN_UNDEF &&
		    elf_read(fd, found, len, names.sh_offset + sym.st_name) &&
		    !memcmp(found, name, len))
			return elf_offset(fd, &eh, sym.st_value);
	}
	return 0;
}

/* A uprobe on a function of an open file, for whoever maps it; its link or -1. */
static int wine_probe(int fd, const char *symbol, const struct bpf_program *prog)
{
	unsigned long at = elf_function(fd, symbol);
	char path[32];
	int link;
	LIBBPF_OPTS(bpf_link_create_opts, opts, .uprobe_multi = {
		.path = path, .offsets = &at, .cnt = 1,
	});

	if (!at)
		return -1;
	/* not by name: what was read is what gets the probe */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	link = bpf_link_create(bpf_program__fd(prog), 0, BPF_TRACE_UPROBE_MULTI, &opts);
	if (link < 0)
		note("wine: no uprobe on %s: %s", symbol, strerror(errno));
	return link;
}

/* Uprobes for the ntdll.so at `path`, until wine_release(). NULL: it is none, or no room. */
static struct wine_file *wine_attach(const char *path)
{
	const struct bpf_program *const bpf[] = {
		st.skel->progs.wine_set_thread, st.skel->progs.wine_set_process,
	};
	/* not blocking: it may turn out to be anything */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct wine_file *f, *file = NULL;
	struct stat s;
	size_t i;

	if (fd < 0 || fstat(fd, &s) || !S_ISREG(s.st_mode) || bpf_program__fd(bpf[0]) < 0)
		goto out;
	for (f = wine_files; f < wine_files + WINE_FILES; f++)
		if (!f->users || (f->ino == s.st_ino && f->dev == s.st_dev)) {
			file = f;
			if (f->users)
				break;
		}
	if (file && !file->users) {
		*file = (struct wine_file){ .dev = s.st_dev, .ino = s.st_ino };
		for (i = 0; i < ARRAY_SIZE(wine_progs); i++)
			file->link[i] = wine_probe(fd, progs[wine_progs[i]].target, bpf[i]);
		if (file->link[0] < 0 && file->link[1] < 0)
			file = NULL;
	}
	if (file)
		file->users++;
out:
	if (fd >= 0)
		close(fd);
	return file;
}

static void wine_release(struct wine_file *f)
{
	size_t i;

	if (!f || --f->users)
		return;
	for (i = 0; i < ARRAY_SIZE(f->link); i++)
		if (f->link[i] >= 0)
			close(f->link[i]);
}

static bool wine_in_use(void)
{
	size_t i;

	for (i = 0; i < WINE_FILES; i++)
		if (wine_files[i].users)
			return true;
	return false;
}

/* The distribution's own, whether a game runs or not; 1: attach, -1: detach. */
static void wine_system(int what)
{
	static const char *const dirs[] = {
		"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/opt/wine-stable/lib64",
		"/opt/wine-staging/lib64", "/opt/wine-devel/lib64", "/opt/wine-stable/lib",
		"/opt/wine-staging/lib", "/opt/wine-devel/lib",
	};
	static struct wine_file *held[ARRAY_SIZE(dirs)];
	char path[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/wine/x86_64-unix/ntdll.so", dirs[i]);
		if (what < 0)
			wine_release(held[i]);
		held[i] = what > 0 ? wine_attach(path) : NULL;
	}
}

/* ===================================================================================== */
/* 10. game                                                                              */
/* ===================================================================================== */

/*
 * BPF tells which processes may matter (game_hint), each gets a slot and, at once and when
 * its start has settled, a look at /proc (slot_look): a server of the game gets its class, any
 * other a score. The best score becomes the game (game_choose). Nothing here runs while
 * nothing starts, ends or begins to use a GPU.
 */

#define GAME_SLOTS	48	/* candidates and servers */
#define GAME_SERVERS	16	/* of these; the rest is for candidates */
#define GAME_SCORE	50	/* from here on it is a game */
#define GAME_MARGIN	20	/* what another must have more than the game that runs */
#define LOOK_SOON_NS	(100 * NSEC_PER_MSEC)	/* an exec is over, threads have started */
#define LOOK_AGAIN_NS	(1 * NSEC_PER_SEC)	/* libraries, memory and threads have come */
#define GAME_POLL_NS	(2 * NSEC_PER_SEC)	/* where the kernel tells of no exec */
#define MANY_THREADS	8
#define MUCH_MEMORY	(256ULL << 20)		/* bytes */
#define HUGE_MEMORY	(1ULL << 30)

/* What is seen of a process, and what it adds to its score. */
#define TRAITS(X)								\
	X(DECLARED, 200)	/* GAMER_GAME=1 in its environment */		\
	X(BENCH, 200)		/* gamer's own synthetic game */		\
	X(STEAM_APP, 30)	/* Steam started it, or started who started it */ \
	X(LAUNCHER_APP, 30)	/* so did another launcher */			\
	X(WINE_ENV, 20)		/* Wine or Proton was set up for it */		\
	X(STEAM_FOLDER, 40)	/* its program lies where Steam puts games */	\
	X(WINE_LOADER, 30)	/* its program is Wine's loader */		\
	X(WINDOWS_NAME, 30)	/* NAME.exe */					\
	X(THREADS, 10)		/* MANY_THREADS */				\
	X(MEMORY, 10)		/* MUCH_MEMORY */				\
	X(MORE_MEMORY, 10)	/* HUGE_MEMORY */				\
	X(GPU, 40)		/* submits frames */				\
	X(INPUT, 10)		/* reads devices */				\
	X(FLIPS, -60)		/* flips pages: more likely a compositor */	\
	X(LAUNCHER_NAME, -20)	/* some games' launchers outlive their start */	\
	X(HELPER, -100)		/* in the table below */			\
	X(NOTHING, -1000)	/* dead, the kernel's or gamer itself */

enum trait {
#define X(id, weight) TRAIT_##id,
	TRAITS(X)
#undef X
	TRAIT_NR
};

#define T(name)		(1u << TRAIT_##name)
#define T_WINE		(T(WINE_ENV) | T(WINE_LOADER) | T(WINDOWS_NAME))

static const int trait_weight[TRAIT_NR] = {
#define X(id, weight) weight,
	TRAITS(X)
#undef X
};

/* Variables that count unless they are empty or 0. */
static const struct { const char *name; u32 trait; } game_env[] = {
	{ "GAMER_GAME=", T(DECLARED) }, { "SteamAppId=", T(STEAM_APP) },
	{ "SteamGameId=", T(STEAM_APP) }, { "LUTRIS_GAME_UUID=", T(LAUNCHER_APP) },
	{ "HEROIC_APP_NAME=", T(LAUNCHER_APP) }, { "UMU_ID=", T(LAUNCHER_APP) },
	{ "STEAM_COMPAT_DATA_PATH=", T(WINE_ENV) }, { "PROTON_", T(WINE_ENV) },
	{ "WINEPREFIX=", T(WINE_ENV) }, { "WINELOADER=", T(WINE_ENV) },
};

static const struct { const char *comm; u8 class; } game_servers[] = {
#define X(name, class) { name, CLASS_##class },
	X("gamescope", COMPOSITOR) X("gamescope-wl", COMPOSITOR) X("kwin_wayland", COMPOSITOR)
	X("kwin_x11", COMPOSITOR) X("gnome-shell", COMPOSITOR) X("mutter", COMPOSITOR)
	X("Xorg", COMPOSITOR) X("Xwayland", COMPOSITOR) X("sway", COMPOSITOR)
	X("weston", COMPOSITOR) X("Hyprland", COMPOSITOR) X("labwc", COMPOSITOR)
	X("cosmic-comp", COMPOSITOR) X("wayfire", COMPOSITOR) X("river", COMPOSITOR)
	X("cage", COMPOSITOR) X("niri", COMPOSITOR)
	X("pipewire", AUDIO) X("pipewire-pulse", AUDIO) X("wireplumber", AUDIO)
	X("pulseaudio", AUDIO) X("jackd", AUDIO) X("jackdbus", AUDIO)
	X("wineserver", WINESERVER) X("wineserver64", WINESERVER) X("wineserver32", WINESERVER)
#undef X
};

/* Not games, though they come with one, look like one or draw as fast; as long as known. */
static const char *const game_helpers[] = {
	/* parts of Wine and Proton; the loader takes the program's name when it has loaded it */
	"wine", "wine64", "wine-preloader", "wine64-preloader",
	"services.exe", "explorer.exe", "winedevice.exe", "plugplay.exe", "svchost.exe",
	"rpcss.exe", "conhost.exe", "start.exe", "tabtip.exe", "wineboot.exe", "winedbg.exe",
	"winemenubuilder.exe", "rundll32.exe", "regsvr32.exe", "msiexec.exe", "cmd.exe",
	"dllhost.exe", "iexplore.exe", "xalia.exe", "steam.exe", "steamservice.exe", "proton",
	/* crash handlers, anti-cheat, stores' own programs */
	"UnityCrashHandler64.exe", "CrashReportClient.exe", "crashpad_handler",
	"CrashSender1403.exe", "BsSndRpt64.exe", "QtWebEngineProcess.exe",
	"start_protected_game.exe",
	"EpicGamesLauncher.exe", "EpicWebHelper.exe", "EADesktop.exe", "EABackgroundService.exe",
	"Battle.net.exe", "Agent.exe", "upc.exe", "UplayWebCore.exe", "GalaxyClient.exe",
	"RockstarService.exe", "SocialClubHelper.exe",
	/* what starts games */
	"steam", "steamwebhelper", "reaper", "pv-adverb", "pv-bwrap", "srt-bwrap", "bwrap",
	"steam-launch-wrapper", "steam-runtime-launcher", "gameoverlayui", "mangoapp", "gamemoded",
	"lutris", "lutris-wrapper", "heroic", "bottles", "umu-run", "python3", "sh", "bash", "dash",
	/* desktops, browsers, players, terminals */
	"plasmashell", "ksmserver", "xfwm4", "cinnamon", "firefox", "firefox-bin", "chrome",
	"chromium", "brave", "msedge", "opera", "vivaldi-bin", "electron", "Discord", "slack",
	"spotify", "code", "obs", "mpv", "vlc", "kodi.bin", "totem", "kitty", "alacritty", "foot",
	"ghostty", "wezterm-gui", "konsole", "gnome-terminal-server", "ptyxis",
};

/* A process that may be the game, or serves it; a slot is free where pid is 0. */
struct game_slot {
	s32 pid;		/* slot_add() */
	int pidfd;		/* of pid, in the epoll set; slot_add() */
	u32 hints;		/* enum hint, all so far; game_hint() */
	s32 score;		/* slot_look() */
	struct wine_file *wine;	/* its ntdll.so or NULL; slot_look(), game_switch() */
	u64 due_ns;		/* next look, CLOCK_MONOTONIC; 0: none; game_hint(), slot_look() */
	u8 class;		/* enum class as last written to BPF; slot_class() */
	u8 seen;		/* 1: comm and score are known; slot_look() */
	u8 again;		/* looks to come after the next; game_hint(), slot_look() */
	char comm[16];		/* not trusted; slot_look() */
};

static struct game {
	struct game_slot slot[GAME_SLOTS];
	struct game_slot *now;	/* the game or NULL; game_switch() */
	int timer_fd;		/* fires at the first due_ns; game_open() */
	bool forced;		/* `now` is what --game names; game_open(), slot_exited() */
	char buf[64 * 1024];	/* of whoever reads /proc; nobody keeps anything in it */
} game;		/* no initial values: 64 KB that the file does not hold */

/* Up to size - 1 bytes of /proc/PID/NAME and a 0; returns their number. */
static size_t proc_read(s32 pid, const char *name, char *buf, size_t size)
{
	size_t len = 0;
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	if (fd >= 0)
		close(fd);
	buf[len] = 0;
	return len;
}

/* Name and what /proc/PID/stat tells. */
static u32 proc_stat(s32 pid, char comm[16])
{
	char *at, *end;
	u64 field[25] = { 0 };
	u32 i;

	comm[0] = 0;
	proc_read(pid, "stat", game.buf, 1024);
	at = strchr(game.buf, '(');
	end = strrchr(game.buf, ')');	/* the name may hold anything */
	if (!at || !end || strlen(end) < 4)
		return T(NOTHING);
	*end = 0;
	snprintf(comm, 16, "%s", at + 1);
	at = end + 3;
	for (i = 4; i < ARRAY_SIZE(field); i++)
		field[i] = strtoll(at, &at, 10);
	if (end[2] == 'Z' || (field[9] & 0x00200000))	/* PF_KTHREAD */
		return T(NOTHING);
	field[24] *= sysconf(_SC_PAGESIZE);
	return (field[20] >= MANY_THREADS ? T(THREADS) : 0) |
	       (field[24] >= MUCH_MEMORY ? T(MEMORY) : 0) |
	       (field[24] >= HUGE_MEMORY ? T(MORE_MEMORY) : 0);
}

static u32 proc_environ(s32 pid)
{
	size_t len = proc_read(pid, "environ", game.buf, sizeof(game.buf)), i;
	const char *at, *value;
	u32 traits = 0;

	for (at = game.buf; at < game.buf + len; at += strlen(at) + 1)
		for (i = 0; i < ARRAY_SIZE(game_env); i++) {
			value = at + strlen(game_env[i].name);
			if (!strncmp(at, game_env[i].name, value - at) && *value &&
			    strcmp(value, "0"))
				traits |= game_env[i].trait;
		}
	return traits;
}

/* The program's path: only looked at, never opened. */
static u32 proc_exe(s32 pid)
{
	char *path = game.buf, link[32], *at;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	n = readlink(link, path, PATH_MAX);
	path[MAX(n, 0)] = 0;
	at = strrchr(path, '/');
	if (at && !strncmp(at, "/wine", 5) && strncmp(at, "/wineserver", 11))
		return T(WINE_LOADER);
	at = strstr(path, "/steamapps/common/");
	/* Proton and the runtimes that wrap games lie there too */
	if (at && strncmp(at + 18, "Proton", 6) && strncmp(at + 18, "SteamLinuxRuntime", 17))
		return T(STEAM_FOLDER);
	return 0;
}

/* Of a name that the kernel cut to 15 bytes. */
static u32 comm_traits(const char *comm)
{
	const char *dot = strrchr(comm, '.');
	size_t i, shown = strlen(comm) == 15 && dot ? strlen(dot) : 5;
	u32 traits = 0;

	if (dot && !strncasecmp(dot, ".exe", shown))
		traits |= T(WINDOWS_NAME);
	if (!strcmp(comm, BENCH_COMM))
		traits |= T(BENCH);
	if (strcasestr(comm, "launcher"))
		traits |= T(LAUNCHER_NAME);
	for (i = 0; i < ARRAY_SIZE(game_helpers); i++)
		if (!strncasecmp(comm, game_helpers[i], 15))
			traits |= T(HELPER);
	return traits;
}

/* Class of a server of the game by its name, CLASS_OTHER where it is none. */
static u8 comm_class(const char *comm)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(game_servers); i++)
		if (!strcmp(comm, game_servers[i].comm))
			return game_servers[i].class;
	return CLASS_OTHER;
}

/* One look at a process: its name and its traits. */
static u32 proc_traits(s32 pid, u32 hints, char comm[16])
{
	u32 traits = proc_stat(pid, comm);

	if (traits & T(NOTHING) || pid == getpid())
		return T(NOTHING);
	return traits | proc_environ(pid) | proc_exe(pid) | comm_traits(comm) |
	       (hints & HINT_GPU ? T(GPU) : 0) | (hints & HINT_INPUT ? T(INPUT) : 0) |
	       (hints & HINT_FLIP ? T(FLIPS) : 0);
}

static s32 traits_score(u32 traits)
{
	s32 score = 0;
	u32 i;

	for (i = 0; i < TRAIT_NR; i++)
		score += traits & (1u << i) ? trait_weight[i] : 0;
	return score;
}

static bool ends_with(const char *s, const char *end)
{
	size_t a = strlen(s), b = strlen(end);

	return a >= b && !strcmp(s + a - b, end);
}

/*
 * Is this line of /proc/PID/maps code of an ntdll.so? Then `link` is the way to that file, right
 * in any mount namespace, whatever its path holds, and even when it was replaced since.
 */
static bool maps_ntdll(s32 pid, const char *line, char *link, size_t size)
{
	unsigned long from, to;
	char *at;

	if (!ends_with(line, "/ntdll.so") && !ends_with(line, "/ntdll.so (deleted)"))
		return false;
	from = strtoul(line, &at, 16);
	if (*at != '-')
		return false;
	to = strtoul(at + 1, &at, 16);
	if (strncmp(at, " r-x", 4))
		return false;
	snprintf(link, size, "/proc/%d/map_files/%lx-%lx", pid, from, to);
	return true;
}

/* The ntdll.so that a process has mapped gets its uprobes; NULL: none. */
static struct wine_file *proc_wine(s32 pid)
{
	char *line, *end, *buf = game.buf, path[64];
	size_t len = 0;
	bool found = false;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && !found && (n = read(fd, buf + len, sizeof(game.buf) - len)) > 0) {
		len += n;
		for (line = buf; !found && (end = memchr(line, '\n', buf + len - line));
		     line = end + 1) {
			*end = 0;
			found = maps_ntdll(pid, line, path, sizeof(path));
		}
		len -= line - buf;
		memmove(buf, line, len);
	}
	if (fd >= 0)
		close(fd);
	return found ? wine_attach(path) : NULL;
}

/* Where nobody tells of programs that start, /proc is read every two seconds. */
static bool game_must_poll(void)
{
	return st.hook_why[HOOK_GAME] && st.hook_why[HOOK_EXEC];
}

/* Fire when the first look is due; never where nothing is. */
static void timer_arm(void)
{
	u64 due = game_must_poll() ? now_ns() + GAME_POLL_NS : 0;
	struct itimerspec its = { 0 };
	size_t i;

	for (i = 0; i < GAME_SLOTS; i++)
		if (game.slot[i].pid && game.slot[i].due_ns && (!due || game.slot[i].due_ns < due))
			due = game.slot[i].due_ns;
	its.it_value.tv_sec = due / NSEC_PER_SEC;
	its.it_value.tv_nsec = due % NSEC_PER_SEC;
	timerfd_settime(game.timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

/*
 * As long as this holds its pid cannot mean another process: what was read from /proc before
 * was of this one.
 */
static bool slot_alive(const struct game_slot *s)
{
	struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

static void slot_free(struct game_slot *s)
{
	wine_release(s->wine);
	close(s->pidfd);	/* leaves the epoll set with it */
	s->pid = 0;
}

static struct game_slot *slot_find(s32 pid)
{
	size_t i;

	for (i = 0; i < GAME_SLOTS; i++)
		if (game.slot[i].pid == pid)
			return &game.slot[i];
	return NULL;
}

/* A free slot, else that of the least likely candidate; NULL: none has been looked at yet. */
static struct game_slot *slot_least(void)
{
	struct game_slot *s, *least = NULL;

	for (s = game.slot; s < game.slot + GAME_SLOTS; s++) {
		if (!s->pid)
			return s;
		if (s->class == CLASS_OTHER && s->seen && (!least || s->score < least->score))
			least = s;
	}
	return least;
}

/* A slot for a process; NULL: it is gone, or all slots are taken. */
static struct game_slot *slot_add(s32 pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);
	struct game_slot *s = fd < 0 ? NULL : slot_least();

	if (!s) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	if (s->pid)
		slot_free(s);
	*s = (struct game_slot){ .pid = pid, .pidfd = fd };
	loop_add(fd, EV_PIDFD + (s - game.slot));
	return s;
}

static void slot_due(struct game_slot *s, u64 delay_ns)
{
	u64 due = now_ns() + delay_ns;

	if (!s->due_ns || s->due_ns > due)
		s->due_ns = due;
}

/* Tell BPF what a process is; its threads look again when class_gen moved. */
static void slot_class(struct game_slot *s, u8 class)
{
	u32 value = class;
	int err, tries = 0;

	if (s->class == class)
		return;
	/* EAGAIN: just then a program gave the same task its first storage; not twice in a row */
	do {
		err = bpf_map_update_elem(bpf_map__fd(st.skel->maps.procs), &s->pidfd, &value,
					  BPF_ANY);
	} while (err == -EAGAIN && ++tries < 100);
	if (err)
		note("%d cannot be told from others: %s", s->pid, strerror(-err));
	s->class = class;
	__atomic_fetch_add(&st.skel->data->class_gen, 1, __ATOMIC_RELEASE);
}

/* A server gets its class here; the game's is game_switch()'s. */
static void slot_serve(struct game_slot *s, u8 class)
{
	u32 servers = 0;
	size_t i;

	/* BPF took it for a compositor when it flipped; a program that is a game says more */
	if (class == CLASS_OTHER && (s->hints & HINT_FLIP) && s->score < GAME_SCORE)
		class = CLASS_COMPOSITOR;
	for (i = 0; i < GAME_SLOTS; i++)
		servers += game.slot[i].pid && game.slot[i].class > CLASS_GAME;
	if (class != CLASS_OTHER && s->class == CLASS_OTHER && servers >= GAME_SERVERS)
		return;
	slot_class(s, class);
}

/* Read what a process is now. False: it is gone, and its exit is about to be told. */
static bool slot_look(struct game_slot *s)
{
	char comm[16];
	u32 traits = proc_traits(s->pid, s->hints, comm);

	s->due_ns = 0;
	/* Wine's library may be mapped only now */
	if (!s->wine && (traits & T_WINE || s == game.now))
		s->wine = proc_wine(s->pid);
	if (!slot_alive(s))
		return false;
	memcpy(s->comm, comm, sizeof(comm));
	/* where only its first thread ended /proc tells nothing any more */
	if (!(traits & T(NOTHING)) || !s->seen)
		s->score = traits_score(traits);
	s->seen = 1;
	if (s->again)
		slot_due(s, s->again-- > 1 ? LOOK_SOON_NS : LOOK_AGAIN_NS);
	if (s != game.now)
		slot_serve(s, comm_class(comm));
	return true;
}

/* From now on this process is the game, or none is. */
static void game_switch(struct game_slot *s)
{
	char name[64];

	/* before class_gen moves: who looks again then must find the new one */
	st.skel->bss->game_tgid = s ? s->pid : 0;
	if (game.now)
		slot_class(game.now, CLASS_OTHER);
	game.now = s;
	if (s) {
		slot_class(s, CLASS_GAME);
		if (!s->wine)
			s->wine = proc_wine(s->pid);
		note("game: %d %s (score %d)", s->pid, text_clean(name, sizeof(name), s->comm),
		     s->score);
	} else {
		note("game: none");
	}
	threads_settle();
}

/* The game that runs stays, unless another is clearly more of one. */
static bool game_stays(const struct game_slot *best)
{
	return !comm_class(game.now->comm) && game.now->score >= GAME_SCORE - GAME_MARGIN &&
	       (!best || best->score < game.now->score + GAME_MARGIN);
}

static void game_choose(void)
{
	struct game_slot *s, *best = NULL;

	if (game.forced)
		return;
	for (s = game.slot; s < game.slot + GAME_SLOTS; s++)
		if (s->pid && s->class <= CLASS_GAME && s->score >= GAME_SCORE &&
		    !comm_class(s->comm) && (!best || s->score > best->score))
			best = s;
	if (game.now && !game_stays(best))
		slot_look(game.now);	/* it may have grown since its last look */
	if (best != game.now && !(game.now && game_stays(best)))
		game_switch(best);
}

/* Look at all processes: those that came before us, or that no hint told of. */
static void game_scan(void)
{
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct game_slot *s;
	char dir[4096], comm[16];
	u32 traits;
	long n, at;

	/* getdents64, because opendir() allocates */
	while (fd >= 0 && (n = syscall(SYS_getdents64, fd, dir, sizeof(dir))) > 0)
		for (at = 0; at < n;) {
			struct dirent *e = (struct dirent *)(dir + at);
			s32 pid = atoi(e->d_name);

			at += e->d_reclen;
			if (pid <= 0 || slot_find(pid))
				continue;
			traits = proc_traits(pid, 0, comm);
			if (traits_score(traits) < GAME_SCORE && !comm_class(comm) &&
			    !(traits & T(WINE_LOADER)))
				continue;
			s = slot_add(pid);
			if (!s)
				continue;
			s->again = 1;
			slot_look(s);
		}
	if (fd >= 0)
		close(fd);
}

static void slot_exited(struct game_slot *s)
{
	bool was_game = s == game.now;

	/* an event of an earlier process in this slot may still have been under way */
	if (!s->pid || slot_alive(s))
		return;
	if (was_game) {
		game.forced = false;
		opt[OPT_GAME].n = 0;	/* it is over, also after a restart by hotplug */
		game_switch(NULL);
	}
	slot_free(s);
	if (was_game) {
		game_scan();
		game_choose();
	}
}

static void game_looks(void)
{
	u64 now = now_ns(), ticks;
	struct game_slot *s;

	if (read(game.timer_fd, &ticks, sizeof(ticks)) < 0)
		return;
	if (game_must_poll())
		game_scan();
	for (s = game.slot; s < game.slot + GAME_SLOTS; s++)
		if (s->pid && s->due_ns && s->due_ns <= now)
			slot_look(s);
	game_choose();
}

/* BPF saw a process do what a game or its servers do. */
static void game_hint(const struct event_hint *e)
{
	struct game_slot *s = slot_find(e->tgid);

	if (!e->tgid)
		return;
	if (s)
		slot_exited(s);		/* its number may belong to another by now */
	s = slot_find(e->tgid);
	if (!s)
		s = slot_add(e->tgid);
	/* a name comes again when another program took over the process */
	if (!s || !((e->what & HINT_NAME) || (e->what & ~s->hints)))
		return;
	s->hints |= e->what;
	s->again = 2;
	slot_due(s, 0);
	timer_arm();
}

static void game_event(u64 data)
{
	if (data == EV_GAME)
		game_looks();
	else
		slot_exited(&game.slot[data - EV_PIDFD]);
	timer_arm();
}

/* --game must name a process; asked before anything is attached. */
static void game_check_option(void)
{
	s32 pid = opt[OPT_GAME].n;
	int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (pid && fd < 0)
		die(EX_NOINPUT, "--game: no process has the number %d", pid);
	if (fd >= 0)
		close(fd);
}

/* After attach: servers and games that run already. */
static void game_open(void)
{
	struct game_slot *s;

	game.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	loop_add(game.timer_fd, EV_GAME);
	wine_system(1);
	s = opt[OPT_GAME].n ? slot_add(opt[OPT_GAME].n) : NULL;
	if (s && slot_look(s)) {
		s->again = 1;
		slot_due(s, LOOK_SOON_NS);	/* Wine's library may come yet */
		game_switch(s);
		game.forced = true;
	}
	game_scan();
	game_choose();
	timer_arm();
}

static void game_close(void)
{
	struct game_slot *s;

	for (s = game.slot; s < game.slot + GAME_SLOTS; s++)
		if (s->pid)
			slot_free(s);
	wine_system(-1);
	close(game.timer_fd);
	game.now = NULL;
	game.forced = false;
}

static void game_json(struct json *j)
{
	if (!game.now)
		return;
	json_open(j, "game", '{');
	json_u64(j, "pid", game.now->pid);
	json_str(j, "comm", game.now->comm);
	json_key(j, "score");
	out_f(j->o, "%d", game.now->score);
	json_close(j, '}');
}

static void game_text(struct out *o)
{
	char name[64];

	if (game.now)
		out_f(o, "game: %d %s (score %d)\n", game.now->pid,
		      text_clean(name, sizeof(name), game.now->comm), game.now->score);
	else
		out_f(o, "game: none\n");
}

/* ===================================================================================== */
/* 11. output                                                                            */
/* ===================================================================================== */

/* Long-lived buffer of answers to clients and of the status file. */
static struct out answer;

static u64 stat_value(u32 row)
{
	struct rusage ru;
	char buf[128];
	u64 sum = 0;
	u32 cpu;

	if (row < BPF_STAT_NR) {
		for (cpu = 0; cpu < topo.nr_cpus; cpu++)
			sum += st.skel->bss->cpu_states[cpu].stat[row];
		return sum;
	}
	switch ((enum user_stat)(row - BPF_STAT_NR)) {
	case USTAT_UPTIME:
		return (now_ns() - st.attach_at_ns) / NSEC_PER_SEC;
	case USTAT_LOAD_US:
		return st.load_us;
	case USTAT_ATTACH_US:
		return st.attach_us;
	case USTAT_RESTARTS:
		return st.restarts;
	case USTAT_ALLOCS:
		return st.allocs;
	case USTAT_RSS_KB:
		/* statm counts pages: size, then resident */
		if (read_line(buf, sizeof(buf), "/proc/self/statm") > 0 && strchr(buf, ' '))
			return strtoull(strchr(buf, ' '), NULL, 10) * 4;
		getrusage(RUSAGE_SELF, &ru);
		return ru.ru_maxrss;
	case USTAT_REJECTED:
		return read_num(0, SCX_DIR "nr_rejected");
	case USTAT_CLIENTS_DROPPED:
		return st.clients_dropped;
	case USTAT_NR:
		break;
	}
	return 0;
}

/* Upper bound of a histogram slot in us; inverse of hist_slot(). */
static double hist_slot_us(u32 slot)
{
	u64 units = slot < 4 ? slot + 1 : ((4 + slot % 4) + 1ULL) << (slot / 4 - 1);

	return units * 256 / 1000.0;
}

/* Wakeup latency of a role over all CPUs: counts into hist, their sum returned. */
static u64 role_hist(u32 role, u64 *hist)
{
	u64 n = 0;
	u32 cpu, i;

	memset(hist, 0, HIST_SLOTS * sizeof(*hist));
	for (cpu = 0; cpu < topo.nr_cpus; cpu++)
		for (i = 0; i < HIST_SLOTS; i++) {
			hist[i] += st.skel->bss->cpu_states[cpu].wake_hist[role][i];
			n += st.skel->bss->cpu_states[cpu].wake_hist[role][i];
		}
	return n;
}

/* The bound under which `share` of n samples lie, in us. */
static double hist_percentile_us(const u64 *hist, u64 n, double share)
{
	u64 want = n * share, seen = 0;
	u32 i;

	for (i = 0; i < HIST_SLOTS - 1; i++) {
		seen += hist[i];
		if (seen > want)
			break;
	}
	return hist_slot_us(i);
}

static u64 role_run_ms(u32 role)
{
	u64 ns = 0;
	u32 cpu;

	for (cpu = 0; cpu < topo.nr_cpus; cpu++)
		ns += st.skel->bss->cpu_states[cpu].role_run_ns[role];
	return ns / NSEC_PER_MSEC;
}

static const char *profile_name(enum profile p)
{
	static const char *const names[] = { "auto", "performance", "balanced", "powersave" };

	return names[p];
}

/* One line on what it does. */
static int summary(char *buf, size_t size)
{
	if (opt[OPT_OBSERVE].n)
		return snprintf(buf, size, "observing, the kernel's own scheduler decides");
	return snprintf(buf, size, "scheduling %u CPU%s, %u cache%s, profile %s", topo.nr_cpus,
			topo.nr_cpus == 1 ? "" : "s", topo.nr_llcs, topo.nr_llcs == 1 ? "" : "s",
			profile_name(st.profile));
}

/* Rates are read as time between events. */
static double hz_of(u64 gap_ns)
{
	return gap_ns ? (double)NSEC_PER_SEC / gap_ns : 0;
}

/* Names come from programs: in a terminal they must do no harm. */
static const char *name_safe(const char *name, size_t size)
{
	static char safe[32];
	size_t i;

	for (i = 0; i < MIN(size, sizeof(safe) - 1) && name[i]; i++)
		safe[i] = name[i] >= ' ' && name[i] < 127 ? name[i] : '?';
	safe[i] = 0;
	return safe;
}

struct threads_out {
	struct out *o;
	struct json *j;
	u32 rows;		/* written so far */
	u32 more;		/* that found no room */
};

/* Room for the rest of the answer is kept: a process may have thousands of threads. */
static bool threads_room(struct threads_out *to)
{
	if (to->o->len < OUT_SIZE / 2 && ++to->rows)
		return true;
	to->more++;
	return false;
}

static void thread_json(const struct thread_row *row, void *ctx)
{
	struct threads_out *to = ctx;
	struct json *j = to->j;

	if (!threads_room(to))
		return;
	json_open(j, NULL, '{');
	json_u64(j, "tid", row->tid);
	json_u64(j, "pid", row->tgid);
	json_str(j, "class", class_names[row->class % CLASS_NR]);
	json_str(j, "role", role_names[row->role % ROLE_NR]);
	json_str(j, "source", source_names[row->source % SOURCE_NR]);
	json_u64(j, "confidence", row->confidence);
	json_u64(j, "submits", row->submits);
	json_f64(j, "submit_hz", hz_of(row->submit_gap_ns), 1);
	json_f64(j, "wake_hz", hz_of(row->gap_ns), 1);
	json_f64(j, "burst_us", row->burst_ns / 1e3, 1);
	json_u64(j, "primary", row->primary);
	json_u64(j, "role_at_ns", row->role_at_ns);
	json_u64(j, "seen_at_ns", row->seen_at_ns);
	json_str(j, "comm", name_safe(row->comm, sizeof(row->comm)));
	json_close(j, '}');
}

static void thread_text(const struct thread_row *row, void *ctx)
{
	struct threads_out *to = ctx;

	if (threads_room(to))
		out_f(to->o, "thread %8u %8u %-10s %-10s %-8s %4u %9.1f  %s\n", row->tid, row->tgid,
		      class_names[row->class % CLASS_NR], role_names[row->role % ROLE_NR],
		      source_names[row->source % SOURCE_NR], row->confidence,
		      hz_of(row->submit_gap_ns), name_safe(row->comm, sizeof(row->comm)));
}

/* For programs: all that is known of each thread, in columns. */
static void thread_line(const struct thread_row *row, void *ctx)
{
	struct threads_out *to = ctx;

	if (threads_room(to))
		out_f(to->o, "thread %u %u %s %s %s %u %.1f %llu %llu %llu %llu %s\n", row->tid, row->tgid,
		      class_names[row->class % CLASS_NR], role_names[row->role % ROLE_NR],
		      source_names[row->source % SOURCE_NR], row->confidence,
		      hz_of(row->submit_gap_ns), row->role_at_ns, row->seen_at_ns,
		      row->wakeups, row->role_wakeups, name_safe(row->comm, sizeof(row->comm)));
}

static void threads_lines(struct out *o)
{
	struct threads_out to = { .o = o };

	threads_each(thread_line, &to);
	out_f(o, "\n");
}

static const char *const frame_sources[] = { "none", "cadence", "flip" };

static void detection_json(struct json *j, struct out *o)
{
	const struct frame_state *f = &st.skel->bss->frame;
	struct threads_out to = { .o = o, .j = j };

	game_json(j);
	json_open(j, "threads", '[');
	threads_each(thread_json, &to);
	json_close(j, ']');
	if (to.more)
		json_u64(j, "threads_not_shown", to.more);
	json_open(j, "frame", '{');
	json_str(j, "source", frame_sources[f->source % 3]);
	json_u64(j, "presented", f->presented);
	json_u64(j, "dropped", f->dropped);
	json_u64(j, "missed", f->missed);
	json_f64(j, "interval_us", f->interval_ns / 1e3, 1);
	json_f64(j, "submit_to_present_us", f->submit_to_present_ns / 1e3, 1);
	json_f64(j, "compositor_us", f->compositor_ns / 1e3, 1);
	json_close(j, '}');
	json_open(j, "input", '{');
#define X(id, name, ms) json_u64(j, #name, stat_value(BPF_STAT_INPUT_##id));
	INPUT_KINDS(X)
#undef X
	json_u64(j, "held", st.skel->bss->input_held);
	json_u64(j, "window_open", st.skel->bss->input_open);
	json_close(j, '}');
}

static void detection_text(struct out *o)
{
	const struct frame_state *f = &st.skel->bss->frame;
	struct threads_out to = { .o = o };

	threads_settle();	/* sets input_open too */
	game_text(o);
	out_f(o, "frame: %s presented %llu dropped %llu missed %llu interval_us %.1f submit_to_present_us %.1f compositor_us %.1f\n",
	      frame_sources[f->source % 3], f->presented, f->dropped, f->missed,
	      f->interval_ns / 1e3, f->submit_to_present_ns / 1e3, f->compositor_ns / 1e3);
	out_f(o, "input:");
#define X(id, name, ms) out_f(o, " " #name " %" PRIu64, stat_value(BPF_STAT_INPUT_##id));
	INPUT_KINDS(X)
#undef X
	out_f(o, " held %u window %s\n", st.skel->bss->input_held,
	      st.skel->bss->input_open ? "open" : "closed");
	out_f(o, "thread %8s %8s %-10s %-10s %-8s %4s %9s  %s\n", "tid", "pid", "class", "role",
	      "source", "conf", "submit/s", "comm");
	threads_each(thread_text, &to);
	if (to.more)
		out_f(o, "(%u more threads)\n", to.more);
}

static void status_json(struct out *o)
{
	u64 hist[HIST_SLOTS], n;
	struct json j;
	u32 i;

	json_begin(&j, o, "status");
	json_str(&j, "version", GAMER_VERSION);
	json_str(&j, "mode", opt[OPT_OBSERVE].n ? "observe" : "schedule");
	json_str(&j, "profile", profile_name(st.profile));
	json_u64(&j, "cpus", topo.nr_cpus);
	json_u64(&j, "caches", topo.nr_llcs);
	json_open(&j, "hooks", '{');
	for (i = 0; i < HOOK_NR; i++)
		json_str(&j, hooks[i].name, st.hook_why[i] ? hooks[i].fallback :
			 i == HOOK_WINE && !wine_in_use() ? "waiting for Wine" : "attached");
	json_close(&j, '}');
	json_open(&j, "stats", '{');
	for (i = 0; i < ARRAY_SIZE(stats); i++)
		json_u64(&j, stats[i].name, stat_value(i));
	json_close(&j, '}');
	json_open(&j, "roles", '{');
	for (i = 0; i < ROLE_NR; i++) {
		n = role_hist(i, hist);
		json_open(&j, role_names[i], '{');
		json_u64(&j, "run_ms", role_run_ms(i));
		json_u64(&j, "wakeups", n);
		if (n) {
			json_f64(&j, "wake_p50_us", hist_percentile_us(hist, n, 0.5), 1);
			json_f64(&j, "wake_p99_us", hist_percentile_us(hist, n, 0.99), 1);
			json_f64(&j, "wake_p999_us", hist_percentile_us(hist, n, 0.999), 1);
		}
		json_close(&j, '}');
	}
	json_close(&j, '}');
	detection_json(&j, o);
	json_end(&j);
}

static void status_text(struct out *o)
{
	u64 hist[HIST_SLOTS], n;
	char text[128];
	u32 i;

	summary(text, sizeof(text));
	out_f(o, "gamer %s: %s\n", GAMER_VERSION, text);
	for (i = 0; i < HOOK_NR; i++)
		if (st.hook_why[i])
			out_f(o, "hook %s: %s; instead: %s\n", hooks[i].name, st.hook_why[i],
			      hooks[i].fallback);
	for (i = 0; i < ARRAY_SIZE(stats); i++)
		out_f(o, "%-26s %12" PRIu64 " %-4s %s\n", stats[i].name, stat_value(i), stats[i].unit,
		      stats[i].help);
	out_f(o, "%-12s %10s %10s %10s %10s %10s\n", "role", "run ms", "wakeups", "p50 us", "p99 us",
	      "p99.9 us");
	for (i = 0; i < ROLE_NR; i++) {
		n = role_hist(i, hist);
		if (!n && !role_run_ms(i))
			continue;
		out_f(o, "%-12s %10" PRIu64 " %10" PRIu64, role_names[i], role_run_ms(i), n);
		if (n)
			out_f(o, " %10.1f %10.1f %10.1f", hist_percentile_us(hist, n, 0.5),
			      hist_percentile_us(hist, n, 0.99), hist_percentile_us(hist, n, 0.999));
		out_f(o, "\n");
	}
	detection_text(o);
}

static void status_metrics(struct out *o)
{
	static const char *const types[] = { "counter", "gauge" };
	u64 hist[HIST_SLOTS], n;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(stats); i++)
		out_f(o, "# HELP gamer_%s %s\n# TYPE gamer_%s %s\ngamer_%s%s %" PRIu64 "\n",
		      stats[i].name, stats[i].help, stats[i].name, types[stats[i].type],
		      stats[i].name, stats[i].type == STAT_COUNTER ? "_total" : "", stat_value(i));
	out_f(o, "# HELP gamer_wakeup_seconds wakeup latency by role\n"
	      "# TYPE gamer_wakeup_seconds summary\n");
	for (i = 0; i < ROLE_NR; i++) {
		n = role_hist(i, hist);
		if (!n)
			continue;
		out_f(o, "gamer_wakeup_seconds{role=\"%s\",quantile=\"0.99\"} %.7f\n", role_names[i],
		      hist_percentile_us(hist, n, 0.99) / 1e6);
		out_f(o, "gamer_wakeup_seconds_count{role=\"%s\"} %" PRIu64 "\n", role_names[i], n);
	}
	out_f(o, "# EOF\n");
}

/* What the status file and sd_notify say, in one line. */
static void status_publish(void)
{
	char text[128];

	summary(text, sizeof(text));
	answer.len = 0;
	answer.fd = -1;
	out_f(&answer, "gamer %s: %s\n", GAMER_VERSION, text);
	write_atomic("status", answer.buf, answer.len);
	sd_notify_("READY=1\nSTATUS=%s", text);
}

/* ===================================================================================== */
/* 12. event consumers                                                                   */
/* ===================================================================================== */

static void client_drop(struct client *c, bool count)
{
	close(c->fd);
	c->fd = -1;
	st.clients_dropped += count;
}

static void client_accept(void)
{
	int fd = accept4(st.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	u32 i;

	if (fd < 0)
		return;
	for (i = 0; i < MAX_CLIENTS; i++)
		if (st.clients[i].fd < 0) {
			st.clients[i] = (struct client){ .fd = fd };
			loop_add(fd, EV_CLIENT + i);
			return;
		}
	close(fd);
	st.clients_dropped++;
}

/* One request line -> one answer. A client that cannot take it at once is dropped. */
static void client_answer(struct client *c)
{
	answer.len = 0;
	answer.fd = -1;
	answer.failed = false;
	if (strstr(c->line, "\"status\""))
		status_json(&answer);
	else if (strstr(c->line, "\"text\""))
		status_text(&answer);
	else if (strstr(c->line, "\"metrics\""))
		status_metrics(&answer);
	else if (strstr(c->line, "\"threads\""))
		threads_lines(&answer);
	else
		out_f(&answer, "{\"v\":1,\"error\":\"unknown command\"}\n");
	if (send(c->fd, answer.buf, answer.len, MSG_NOSIGNAL) != (ssize_t)answer.len)
		client_drop(c, true);
}

static void client_read(struct client *c)
{
	ssize_t n = read(c->fd, c->line + c->len, sizeof(c->line) - 1 - c->len);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_drop(c, false);
		return;
	}
	c->len += n;
	c->line[c->len] = 0;
	if (memchr(c->line, '\n', c->len)) {
		c->len = 0;
		client_answer(c);
	} else if (c->len == sizeof(c->line) - 1) {
		client_drop(c, true);
	}
}

static void on_signal(void)
{
	struct signalfd_siginfo si;

	while (read(st.signal_fd, &si, sizeof(si)) == sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGHUP:
			power_apply();
			status_publish();
			break;
		case SIGUSR1:
			status_text(out_stdout());
			out_flush(out_stdout());
			break;
		default:
			st.stop = true;
		}
	}
}

/* A supply was plugged in or out: the profile may change. */
static void on_uevent(void)
{
	char buf[4096];
	ssize_t n;

	while ((n = recv(st.uevent_fd, buf, sizeof(buf) - 1, MSG_DONTWAIT)) > 0) {
		buf[n] = 0;
		if (strstr(buf, "/power_supply/")) {
			power_apply();
			status_publish();
		}
	}
}

static void on_watchdog(void)
{
	u64 ticks;

	if (read(st.watchdog_fd, &ticks, sizeof(ticks)) > 0)
		sd_notify_("WATCHDOG=1");
}

/* Wait and serve until a signal asks to stop or the kernel lets the scheduler go. */
static void loop(void)
{
	struct epoll_event ev[8];
	int i, n;

	while (!st.stop && !st.exited) {
		n = epoll_wait(st.epoll_fd, ev, ARRAY_SIZE(ev), -1);
		for (i = 0; i < n; i++) {
			switch (ev[i].data.u64) {
			case EV_SIGNAL:
				on_signal();
				break;
			case EV_RING:
				ring_buffer__consume(st.ring);
				break;
			case EV_LISTEN:
				client_accept();
				break;
			case EV_UEVENT:
				on_uevent();
				break;
			case EV_WATCHDOG:
				on_watchdog();
				break;
			case EV_GAME:
			case EV_PIDFD ... EV_PIDFD + GAME_SLOTS - 1:
				game_event(ev[i].data.u64);
				break;
			default:
				if (st.clients[ev[i].data.u64 - EV_CLIENT].fd >= 0)
					client_read(&st.clients[ev[i].data.u64 - EV_CLIENT]);
			}
		}
	}
}

static void loop_open_socket(void)
{
	struct sockaddr_un sa = socket_address();

	st.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	unlink(sa.sun_path);	/* ours: the lock is held */
	umask(0117);
	if (st.listen_fd < 0 || bind(st.listen_fd, (struct sockaddr *)&sa, sizeof(sa)) ||
	    listen(st.listen_fd, MAX_CLIENTS)) {
		note("no status socket (%s): %s", sa.sun_path, strerror(errno));
		if (st.listen_fd >= 0)
			close(st.listen_fd);
		st.listen_fd = -1;
	}
	umask(022);
}

/* systemd wants a sign of life at half of WATCHDOG_USEC; without it there is no timer. */
static void loop_open_watchdog(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	u64 period = usec ? strtoull(usec, NULL, 10) / 2 : 0;
	struct itimerspec its;

	if (!period)
		return;
	its.it_value.tv_sec = period / 1000000;
	its.it_value.tv_nsec = period % 1000000 * 1000;
	its.it_interval = its.it_value;
	st.watchdog_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	timerfd_settime(st.watchdog_fd, 0, &its, NULL);
}

static void loop_open(void)
{
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	sigset_t set;
	u32 i;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	st.signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	st.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (st.signal_fd < 0 || st.epoll_fd < 0)
		die(EX_SOFTWARE, "epoll: %s", strerror(errno));
	for (i = 0; i < MAX_CLIENTS; i++)
		st.clients[i].fd = -1;
	loop_open_socket();
	loop_open_watchdog();
	if (opt[OPT_PROFILE].n == PROFILE_AUTO) {
		st.uevent_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
				      NETLINK_KOBJECT_UEVENT);
		if (st.uevent_fd >= 0 && bind(st.uevent_fd, (struct sockaddr *)&nl, sizeof(nl))) {
			close(st.uevent_fd);
			st.uevent_fd = -1;
		}
	}
	loop_add(st.signal_fd, EV_SIGNAL);
	loop_add(st.listen_fd, EV_LISTEN);
	loop_add(st.uevent_fd, EV_UEVENT);
	loop_add(st.watchdog_fd, EV_WATCHDOG);
}

/* ===================================================================================== */
/* 13. bench                                                                             */
/* ===================================================================================== */

/*
 * gamer bench: a synthetic game that works under any scheduler.
 *
 *   GameThread --futex--> Job 0..N-1 --futex--> GameThread --futex--> RenderThread
 *     (frame limiter)      (fork-join)                                     | futex
 *   compositor process <--shared memory-- "GPU" <--submit-- SubmitThread <-+
 *     (vblank timer)
 *
 * Next to the frame chain: InputThread (uinput mouse or timer), AudioThread
 * (period timer), NetThread (UDP from a server process) and the load processes.
 *
 * Start reading at bench_run(). Shared mappings hold all state, struct bench leads to it;
 * helper processes are forked before threads are made, everybody meets at one barrier, and
 * from then on each thread only sleeps on its timer, its futex or its file descriptor:
 * nothing spins, nothing reads the wall clock. What fails before the barrier ends the
 * program, and the children with it.
 */

/* ==== bench 1: types ================================================================= */

#define BENCH_IN_FLIGHT		2	/* frames between limiter and present call */
#define BENCH_STAMPS		4	/* > BENCH_IN_FLIGHT: none is overwritten unread */
#define BENCH_COMPOSITOR_US	600	/* work per vblank */
#define BENCH_INPUT_US		5	/* work per input event */
#define BENCH_NET_US		20	/* work per datagram */
#define BENCH_NET_HZ		100	/* server tick */
#define BENCH_AUDIO_HZ		48000
#define BENCH_AUDIO_PERIODS	2	/* in the device's buffer */
#define BENCH_AUDIO_WORK_PCT	7	/* of a period */
#define BENCH_HOG_US		250	/* one operation of a hog */
#define BENCH_FORK_US		20	/* what a forked child does before it exits */
#define BENCH_IO_BYTES		16384	/* one operation of the io load */
#define BENCH_IO_FILE_BYTES	(1U << 20)
#define BENCH_PIPE_BYTES	64
#define BENCH_JITTER_NS		(500 * NSEC_PER_USEC)
#define BENCH_SETUP_NS		(30 * NSEC_PER_SEC)	/* until everybody is ready */
#define BENCH_ANSWER_NS		(2 * NSEC_PER_SEC)	/* for a running gamer to say what it found */
#define BENCH_MAX_LOADS		512

enum bench_load { LOAD_NONE, LOAD_HOGS, LOAD_FORK, LOAD_PIPE, LOAD_IO, LOAD_MIXED, LOAD_NR };

/* What the caller asks for; 0 means the default where one is named. */
struct bench_cfg {
	u32 seconds;		/* measured time, after the warm-up */
	u32 warmup_ms;
	u32 fps;		/* Hz, of the frame limiter and of the vblank */
	u32 workers;		/* fork-join job threads; 0: min(cpus - 1, 3), at least 1 */
	u32 input_hz;
	u32 audio_frames;	/* per period, at 48 kHz */
	u32 load;		/* enum bench_load */
	u32 load_threads;	/* 0: 2 x cpus; each is one runnable task (a pipe pair is one) */
	u64 iters_per_ms;	/* 0: calibrate */
	u32 frame_work_us;	/* CPU work of one frame over all threads; 0: 24 % of 1/fps */
	bool no_uinput;		/* feed the input thread by a timer */
	bool no_drm;		/* complete frames by a timer */
	bool json;		/* on stdout, instead of text */
	const char *svg, *csv;	/* files to write, or NULL */
};

enum bench_role {
	BR_SIM, BR_WORKER, BR_RENDER, BR_SUBMIT, BR_COMPOSITOR, BR_INPUT, BR_AUDIO, BR_NETWORK,
	BR_COUNT
};

/* Real computation on a small working set. Owner: the thread that works. */
struct bench_work {
	u64 x;			/* integer state, never 0 */
	double f;		/* float state, bounded by 4 * 2^32 */
	u64 cell[128];		/* 1 KB, stays in the first-level cache */
};

/* What a running gamer says of a thread; main. */
struct bench_found {
	u32 role;		/* enum role */
	u32 confidence;		/* 0..100 */
	char source[16];	/* its own word */
	u64 role_at_ns;		/* when it got the role, CLOCK_MONOTONIC; 0: never */
	u64 role_wakeups;	/* wakeups until then */
};

/* A thread of the game, or the compositor process. Owner: that thread, once started. */
struct bench_thread {
	pthread_t pthread;	/* main */
	u32 role;		/* enum bench_role; main */
	u32 index;		/* within the role; main */
	u32 *wake_ns;		/* wakeup latencies, ns, in order; room for cap */
	u32 count;		/* of wake_ns */
	u32 cap;		/* main */
	u32 tid;		/* Linux thread */
	u64 woke_ns;		/* its first wakeup, CLOCK_MONOTONIC; 0: none yet */
	u64 event_ns;		/* the first event that tells its role at once; 0: none yet */
	struct bench_found found;	/* main */
	struct bench_work work;
} __attribute__((aligned(64)));

/* A counted futex: posts never get lost, each carries the time of its post. */
struct bench_gate {
	_Atomic u32 seq;		/* posts so far, the futex word; poster */
	_Atomic u64 stamp_ns[BENCH_STAMPS];	/* of post seq % BENCH_STAMPS; poster */
} __attribute__((aligned(64)));

/* One frame. 0 in a time: has not happened. */
struct bench_frame {
	u64 tick_ns;		/* limiter tick that started it; sim */
	u64 input_ns;		/* newest input event it used; sim */
	u64 call_ns;		/* present call, after the GPU submit; submit */
	_Atomic u64 gpu_done_ns;	/* completion, known in advance without a fence; submit */
	_Atomic u64 shown_ns;	/* composited and committed; compositor */
	_Atomic u32 jitter_ns;	/* largest wakeup latency on its chain; all of the chain */
};

/* One load task. Owner: the load process, if not said otherwise. */
struct bench_slot {
	_Atomic u64 ops;	/* finished operations */
	u64 ops_at[2];		/* ops at the borders of the measured interval; main */
	u32 kind;		/* enum bench_load, never NONE or MIXED; main */
	int fd[4];		/* pipe: request r/w, reply r/w; io: the file; main */
	struct bench_work work;
} __attribute__((aligned(64)));

static struct bench {
	struct bench_cfg cfg;		/* defaults filled in; main */
	u64 period_ns, audio_period_ns, input_period_ns;	/* main */
	u64 gpu_ns;			/* GPU time of a frame; main */
	pid_t group;			/* process group of all children; main */
	u32 cpus, children, threads, frame_cap, slots;	/* main */
	int uinput, evdev, net, net_server;	/* descriptors or -1; main */
	bool net_udp;			/* false: no loopback, a socket pair instead; main */
	bool interrupted;		/* main */
	char sched[64];			/* who schedules; main */

	/* the GPU stand-in; submit, if not said otherwise */
	int gpu;			/* render node, or -1: nothing to submit with; main */
	char gpu_name[32];		/* of the kernel driver; main */
	u64 gpu_submits, gpu_fences;	/* submit ioctls, and those that gave a fence */
	int gpu_error;			/* errno of the newest failed submit */

	/* start barrier and end; main, except ready */
	_Atomic u32 ready;		/* threads and processes at the barrier, futex; everybody */
	_Atomic u32 go;			/* futex */
	_Atomic u32 quit;		/* no more frames */
	_Atomic u32 stop;		/* measuring and the last frames are over */
	u64 epoch_ns, t0_ns;		/* vblank 0; start of the measured interval */
	_Atomic u64 t1_ns;		/* its end; pulled in by a signal */
	u64 load_ns[2];			/* when the loads' counters were really read */
	bool answered;			/* a running gamer said what it found; main */
	bool known;			/* and we are the game; main */
	u32 outside[ROLE_NR];		/* threads it named that are not ours, by role; main */

	/* the frame chain */
	struct bench_gate jobs, joined, render, submit, retired;
	_Atomic u32 jobs_left;		/* sim sets, workers count down */
	_Atomic u32 quit_frame;		/* first frame that will not come; sim */
	_Atomic u32 called;		/* frames whose present call has been made; submit */
	_Atomic u64 newest_input_ns;	/* input */

	/* counted while measuring */
	u64 input_events;		/* input */
	u64 audio_periods, audio_xruns;	/* audio */
	u64 datagrams;			/* network */

	/* mappings of their own; main */
	struct bench_frame *frame;	/* [frame_cap + 1], the last never starts */
	struct bench_slot *slot;	/* [slots] */
	struct bench_thread *thread;	/* [threads], by role */
	struct bench_thread *role[BR_COUNT];	/* first thread of each role */
} *bench;

/* ==== bench 2: samples and waiting =================================================== */

static long bench_futex(_Atomic u32 *word, int op, u32 val, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, val, timeout, NULL, 0);
}

static struct timespec bench_timespec(u64 ns)
{
	return (struct timespec){ .tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC };
}

/* Everybody counts itself ready, then waits for go. */
static void bench_barrier(void)
{
	atomic_fetch_add(&bench->ready, 1);
	bench_futex(&bench->ready, FUTEX_WAKE, 1, NULL);
	while (!atomic_load(&bench->go))
		bench_futex(&bench->go, FUTEX_WAIT, 0, NULL);
}

static bool bench_measured(u64 ns)
{
	return ns >= bench->t0_ns && ns < atomic_load(&bench->t1_ns);
}

static void bench_raise_jitter(struct bench_frame *frame, u32 late_ns)
{
	u32 seen = atomic_load(&frame->jitter_ns);

	while (seen < late_ns && !atomic_compare_exchange_weak(&frame->jitter_ns, &seen, late_ns))
		;
}

/*
 * Counts one wakeup that was due at due_ns and is running since woke_ns; a wakeup
 * belongs to the interval in which it was due. frame: whose chain it is on, or NULL.
 */
static void bench_woke(struct bench_thread *t, u64 due_ns, u64 woke_ns, struct bench_frame *frame)
{
	u32 late_ns = woke_ns > due_ns ? MIN(woke_ns - due_ns, (u64)UINT32_MAX) : 0;

	if (!t->woke_ns)
		t->woke_ns = woke_ns;
	if (bench_measured(due_ns) && t->count < t->cap)
		t->wake_ns[t->count++] = late_ns;
	if (frame)
		bench_raise_jitter(frame, late_ns);
}

/*
 * Sleeps until due_ns and returns the time. Whoever comes too late doesn't sleep, and what
 * doesn't sleep isn't woken: that is a late thread's overrun, not a wakeup latency.
 */
static u64 bench_sleep_until(struct bench_thread *t, u64 due_ns, struct bench_frame *frame)
{
	struct timespec ts = bench_timespec(due_ns);
	u64 now = now_ns();

	if (now >= due_ns)
		return now;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
	/* the clock that is read without a system call may lag the timer's by some ns */
	now = MAX(now_ns(), due_ns);
	if (t)
		bench_woke(t, due_ns, now, frame);
	return now;
}

/* The return of a call that tells the thread's role at once: a submit, input, a datagram */
static void bench_event(struct bench_thread *t, u64 at_ns)
{
	if (!t->event_ns)
		t->event_ns = at_ns;
}

/* The first point of the grid start + k * step that is still to come */
static u64 bench_next(u64 start_ns, u64 step_ns)
{
	u64 now = now_ns();

	return now <= start_ns ? start_ns : start_ns + ((now - start_ns) / step_ns + 1) * step_ns;
}

static void bench_gate_post(struct bench_gate *g)
{
	u32 seq = atomic_load(&g->seq) + 1;

	atomic_store(&g->stamp_ns[seq % BENCH_STAMPS], now_ns());
	atomic_store(&g->seq, seq);
	bench_futex(&g->seq, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}

/* Waits for post number `want`. Who finds it done has not slept, and is not counted. */
static void bench_gate_wait(struct bench_thread *t, struct bench_gate *g, u32 want,
			    struct bench_frame *frame)
{
	bool slept = false;
	u32 seq;

	while ((s32)((seq = atomic_load(&g->seq)) - want) < 0)
		slept = !bench_futex(&g->seq, FUTEX_WAIT_PRIVATE, seq, NULL);
	if (slept)
		bench_woke(t, atomic_load(&g->stamp_ns[want % BENCH_STAMPS]), now_ns(), frame);
}

static void bench_work(struct bench_work *w, u64 iters)
{
	u64 x = w->x;
	double f = w->f;

	while (iters--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		f = f * 0.75 + (double)(u32)x;
		w->cell[x % ARRAY_SIZE(w->cell)] += x + (u64)(s64)f;
	}
	w->x = x;
	w->f = f;
}

static void bench_work_us(struct bench_work *w, u64 us)
{
	bench_work(w, bench->cfg.iters_per_ms * us / 1000);
}

static int bench_cmp_u32(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return (x > y) - (x < y);
}

/*
 * Iterations per millisecond: the median of short runs, in CPU time so that other
 * tasks don't count. The first runs only bring the CPU to speed.
 */
static u64 bench_calibrate(void)
{
	enum { RUNS = 41, SKIP = 20, ITERS = 400000 };
	struct bench_work w = { .x = 1 };
	struct timespec a, z;
	u32 took_ns[RUNS];

	for (int i = 0; i < RUNS; i++) {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
		bench_work(&w, ITERS);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &z);
		took_ns[i] = MAX((z.tv_sec - a.tv_sec) * 1000000000 + z.tv_nsec - a.tv_nsec, 1);
	}
	qsort(took_ns + SKIP, RUNS - SKIP, sizeof(*took_ns), bench_cmp_u32);
	if (w.f < 0)	/* never; but the compiler may not drop the work */
		return 0;
	return MAX(ITERS * NSEC_PER_MSEC / took_ns[SKIP + (RUNS - SKIP) / 2], 1);
}

/* ==== bench 3: devices =============================================================== */

/*
 * The two DRM requests in use, as in <drm/drm.h> and <drm/virtgpu_drm.h>, which a build
 * machine may lack.
 */
struct bench_drm_version {
	int number[3];
	struct {
		size_t len;
		char *text;
	} name, date, desc;
};

struct bench_virtgpu_execbuffer {
	u32 flags, size;
	u64 command, bo_handles;
	u32 num_bo_handles;
	s32 fence_fd;
	u32 ring_idx, syncobj_stride, num_in_syncobjs, num_out_syncobjs;
	u64 in_syncobjs, out_syncobjs;
};

#define BENCH_DRM_VERSION	_IOWR('d', 0x00, struct bench_drm_version)
#define BENCH_VIRTGPU_EXEC	_IOWR('d', 0x42, struct bench_virtgpu_execbuffer)
#define BENCH_VIRTGPU_FENCE_OUT	0x02

/* The first render node of the one driver that we can submit to */
static void bench_gpu_open(void)
{
	char path[32], *name = bench->gpu_name;

	for (u32 minor = 128; minor < 144 && bench->gpu < 0; minor++) {
		struct bench_drm_version v = { .name = { sizeof(bench->gpu_name) - 1, name } };
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/renderD%u", minor);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		memset(name, 0, sizeof(bench->gpu_name));
		if (!ioctl(fd, BENCH_DRM_VERSION, &v) && !strcmp(name, "virtio_gpu"))
			bench->gpu = fd;
		else
			close(fd);
	}
}

/*
 * One empty virgl command. Returns a fence, or -1 where there is none: a driver without 3D
 * refuses, and is asked again each frame, since the submit itself is what a game does.
 */
static int bench_gpu_submit(void)
{
	static const u32 nop;
	struct bench_virtgpu_execbuffer exec = {
		.flags = BENCH_VIRTGPU_FENCE_OUT, .size = sizeof(nop),
		.command = (uintptr_t)&nop, .fence_fd = -1,
	};

	if (bench->gpu < 0)
		return -1;
	bench->gpu_submits++;
	if (ioctl(bench->gpu, BENCH_VIRTGPU_EXEC, &exec)) {
		bench->gpu_error = errno;
		return -1;
	}
	bench->gpu_fences += exec.fence_fd >= 0;
	return exec.fence_fd;
}

/*
 * A virtual mouse, grabbed so that no pointer moves on the user's screen. Its event node has
 * the number that /sys/devices/virtual/input/inputN/eventM tells.
 */
static void bench_uinput_open(void)
{
	struct uinput_setup setup = { .id.bustype = BUS_VIRTUAL, .name = "gamer bench mouse" };
	int clock = CLOCK_MONOTONIC, fd = open("/dev/uinput", O_WRONLY | O_CLOEXEC), evdev = -1;
	char sys[64] = "", path[128];

	if (fd < 0 || ioctl(fd, UI_SET_EVBIT, EV_KEY) || ioctl(fd, UI_SET_KEYBIT, BTN_LEFT) ||
	    ioctl(fd, UI_SET_EVBIT, EV_REL) || ioctl(fd, UI_SET_RELBIT, REL_X) ||
	    ioctl(fd, UI_SET_RELBIT, REL_Y) || ioctl(fd, UI_DEV_SETUP, &setup) ||
	    ioctl(fd, UI_DEV_CREATE) || ioctl(fd, UI_GET_SYSNAME(sizeof(sys) - 1), sys) < 0)
		return;
	for (u32 i = 0; i < 2048 && evdev < 0; i++) {
		snprintf(path, sizeof(path), "/sys/devices/virtual/input/%s/event%u", sys, i);
		if (access(path, F_OK))
			continue;
		snprintf(path, sizeof(path), "/dev/input/event%u", i);
		evdev = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	if (!ioctl(evdev, EVIOCSCLOCKID, &clock) && !ioctl(evdev, EVIOCGRAB, 1)) {
		bench->uinput = fd;
		bench->evdev = evdev;
		return;
	}
	close(evdev);
	close(fd);	/* no mouse that nobody reads */
}

/* Game and server, connected over UDP; where loopback is down (initramfs), a socket pair */
static void bench_net_open(void)
{
	struct sockaddr_in at[2];
	socklen_t len = sizeof(*at);
	int fd[2];

	for (u32 i = 0; i < 2; i++) {
		at[i] = (struct sockaddr_in){ .sin_family = AF_INET,
					      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		bind(fd[i], (void *)&at[i], len);
		getsockname(fd[i], (void *)&at[i], &len);
	}
	bench->net_udp = !connect(fd[0], (void *)&at[1], sizeof(*at)) &&
			 !connect(fd[1], (void *)&at[0], sizeof(*at)) &&
			 send(fd[0], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
	if (!bench->net_udp && socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd))
		die(EX_OSERR, "bench: no sockets: %s", strerror(errno));
	bench->net = fd[0];
	bench->net_server = fd[1];
}

/* ==== bench 4: the game ============================================================== */

/* Percent of a frame's work per stage; what the jobs get is split among the workers. */
static const u32 bench_share_pct[BR_COUNT] = {
	[BR_SIM] = 25, [BR_WORKER] = 40, [BR_RENDER] = 25, [BR_SUBMIT] = 10,
};

/* Frames differ by up to 25 %, by a hash of their number: the same in each run. */
static void bench_frame_work(struct bench_thread *t, u32 frame)
{
	const struct bench_cfg *c = &bench->cfg;
	u32 hash = (frame + 1) * 2654435761U;
	u64 iters = c->iters_per_ms * c->frame_work_us / 1000;

	hash ^= hash >> 15;
	iters = iters * bench_share_pct[t->role] / 100 * (768 + hash % 513) / 1024;
	bench_work(&t->work, t->role == BR_WORKER ? iters / c->workers : iters);
}

/* Waits for frame f at a stage's gate; false: there is none. */
static bool bench_frame_wait(struct bench_thread *t, struct bench_gate *g, u32 f)
{
	bench_gate_wait(t, g, f + 1, &bench->frame[f]);
	return f < atomic_load(&bench->quit_frame);
}

/*
 * The limiter's grid lies 1/16 period behind the vblanks, as with a game that is
 * called back when the compositor is done. A frame that overruns its period makes
 * the next one start at the next tick. At most BENCH_IN_FLIGHT frames are under way.
 */
static void bench_sim(struct bench_thread *t)
{
	u64 tick_ns = bench->epoch_ns + bench->period_ns / 16;
	u32 f;

	for (f = 0; f < bench->frame_cap; f++, tick_ns += bench->period_ns) {
		struct bench_frame *frame = &bench->frame[f];

		tick_ns = bench_next(tick_ns, bench->period_ns);
		if (atomic_load(&bench->quit))
			break;
		frame->tick_ns = tick_ns;
		bench_sleep_until(t, tick_ns, frame);
		if (f >= BENCH_IN_FLIGHT)
			bench_gate_wait(t, &bench->retired, f - BENCH_IN_FLIGHT + 1, frame);
		frame->input_ns = atomic_load(&bench->newest_input_ns);
		bench_frame_work(t, f);
		atomic_store(&bench->jobs_left, bench->cfg.workers);
		bench_gate_post(&bench->jobs);
		bench_gate_wait(t, &bench->joined, f + 1, frame);
		bench_gate_post(&bench->render);
	}
	atomic_store(&bench->quit_frame, f);
	bench_gate_post(&bench->jobs);
	bench_gate_post(&bench->render);
}

static void bench_worker(struct bench_thread *t)
{
	for (u32 f = 0; bench_frame_wait(t, &bench->jobs, f); f++) {
		bench_frame_work(t, f);
		if (atomic_fetch_sub(&bench->jobs_left, 1) == 1)
			bench_gate_post(&bench->joined);
	}
}

static void bench_render(struct bench_thread *t)
{
	for (u32 f = 0; bench_frame_wait(t, &bench->render, f); f++) {
		bench_frame_work(t, f);
		bench_gate_post(&bench->submit);
	}
	bench_gate_post(&bench->submit);
}

/*
 * The GPU needs gpu_ns per frame, one frame after the other. Without a fence its
 * completion is known at once; with one the frame is done when both are.
 */
static void bench_submit(struct bench_thread *t)
{
	u64 done_ns = 0;

	for (u32 f = 0; bench_frame_wait(t, &bench->submit, f); f++) {
		struct bench_frame *frame = &bench->frame[f];
		int fence;

		bench_frame_work(t, f);
		fence = bench_gpu_submit();
		frame->call_ns = now_ns();
		if (bench->gpu >= 0)
			bench_event(t, frame->call_ns);
		done_ns = MAX(done_ns, frame->call_ns) + bench->gpu_ns;
		if (fence < 0)
			atomic_store(&frame->gpu_done_ns, done_ns);
		atomic_store(&bench->called, f + 1);
		bench_gate_post(&bench->retired);
		if (fence >= 0) {
			poll(&(struct pollfd){ .fd = fence, .events = POLLIN }, 1, 1000);
			close(fence);
			atomic_store(&frame->gpu_done_ns, MAX(now_ns(), done_ns));
		}
	}
}

/* Handles `events` input events, the newest from newest_ns. */
static void bench_input_events(struct bench_thread *t, u64 events, u64 newest_ns)
{
	atomic_store(&bench->newest_input_ns, newest_ns);
	if (bench_measured(newest_ns))
		bench->input_events += events;
	bench_work_us(&t->work, BENCH_INPUT_US * MIN(events, 64ULL));
}

static void bench_input_evdev(struct bench_thread *t)
{
	struct pollfd pfd = { .fd = bench->evdev, .events = POLLIN };
	struct input_event ev[64];

	while (!atomic_load(&bench->stop)) {
		u64 before_ns = now_ns(), first_ns = 0, newest_ns = 0, events = 0, woke_ns;
		int ready = poll(&pfd, 1, 200);		/* in ms: sees the end without an event */
		ssize_t n;

		woke_ns = now_ns();
		n = ready > 0 ? read(bench->evdev, ev, sizeof(ev)) : 0;
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(*ev); i++) {
			if (ev[i].type != EV_SYN)
				continue;
			newest_ns = ev[i].input_event_sec * NSEC_PER_SEC +
				    ev[i].input_event_usec * NSEC_PER_USEC;
			first_ns = first_ns ? first_ns : newest_ns;
			events++;
		}
		if (!events)
			continue;
		bench_event(t, woke_ns);
		/* the kernel's stamp has microseconds: it may lie up to 1 us too early */
		if (first_ns + NSEC_PER_USEC > before_ns)
			bench_woke(t, first_ns, woke_ns, NULL);
		bench_input_events(t, events, newest_ns);
	}
}

/* Without a device a timer does: a late thread finds several events, as read() would. */
static void bench_input(struct bench_thread *t)
{
	u64 due_ns = bench->epoch_ns, step_ns = bench->input_period_ns;

	if (bench->evdev >= 0)
		bench_input_evdev(t);	/* until the end */
	while (!atomic_load(&bench->stop)) {
		u64 behind = (bench_sleep_until(t, due_ns, NULL) - due_ns) / step_ns;

		due_ns += behind * step_ns;
		bench_input_events(t, behind + 1, due_ns);
		due_ns += step_ns;
	}
}

/*
 * The device plays one period of its buffer while the thread fills the next one: what is
 * woken at the start of period k must be done BENCH_AUDIO_PERIODS - 1 periods later. Done
 * later is an xrun, and the stream starts anew at the next period.
 */
static void bench_audio(struct bench_thread *t)
{
	u64 work_us = bench->audio_period_ns * BENCH_AUDIO_WORK_PCT / 100 / NSEC_PER_USEC;
	u64 due_ns = bench->epoch_ns, done_ns, deadline_ns;

	while (!atomic_load(&bench->stop)) {
		bench_sleep_until(t, due_ns, NULL);
		bench_work_us(&t->work, work_us);
		done_ns = now_ns();
		deadline_ns = due_ns + (BENCH_AUDIO_PERIODS - 1) * bench->audio_period_ns;
		if (bench_measured(due_ns)) {
			bench->audio_periods++;
			bench->audio_xruns += done_ns > deadline_ns;
		}
		due_ns = done_ns > deadline_ns ? bench_next(due_ns, bench->audio_period_ns)
					       : due_ns + bench->audio_period_ns;
	}
}

/* A server's snapshot; the answer is the same bytes back. */
struct bench_datagram {
	u64 sent_ns;		/* just before send */
	u8 state[120];
};

static void bench_network(struct bench_thread *t)
{
	struct bench_datagram d;

	for (;;) {
		u64 before_ns = now_ns(), woke_ns;

		if (recv(bench->net, &d, sizeof(d), 0) != sizeof(d))
			return;		/* shut down by main at the end */
		woke_ns = now_ns();
		bench_event(t, woke_ns);
		if (d.sent_ns > before_ns)
			bench_woke(t, d.sent_ns, woke_ns, NULL);
		if (bench_measured(d.sent_ns))
			bench->datagrams++;
		bench_work_us(&t->work, BENCH_NET_US);
		send(bench->net, &d, sizeof(d), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/* ==== bench 5: helper processes ====================================================== */

/* At each vblank: latch the newest finished frame, composite it, commit it. */
static void bench_compositor(struct bench_slot *none)
{
	struct bench_thread *t = bench->role[BR_COMPOSITOR];
	u64 vblank_ns = bench->epoch_ns, now;
	s64 f, shown = -1;

	(void)none;
	t->tid = gettid();
	for (;; vblank_ns += bench->period_ns) {
		vblank_ns = bench_next(vblank_ns, bench->period_ns);
		now = bench_sleep_until(t, vblank_ns, NULL);
		for (f = (s64)atomic_load(&bench->called) - 1; f > shown; f--) {
			u64 done_ns = atomic_load(&bench->frame[f].gpu_done_ns);

			if (done_ns && done_ns <= now)
				break;
		}
		bench_work_us(&t->work, BENCH_COMPOSITOR_US);
		if (f <= shown)
			continue;
		bench_raise_jitter(&bench->frame[f], MIN(now - vblank_ns, (u64)UINT32_MAX));
		atomic_store(&bench->frame[f].shown_ns, now_ns());
		shown = f;
	}
}

/* The mouse's hardware. It is an ordinary task: when it is late, so are its reports. */
static void bench_feeder(struct bench_slot *none)
{
	struct input_event ev[2] = { { .type = EV_REL, .code = REL_X, .value = 1 },
				     { .type = EV_SYN, .code = SYN_REPORT } };
	u64 due_ns = bench->epoch_ns;

	(void)none;
	for (;; due_ns += bench->input_period_ns) {
		due_ns = bench_next(due_ns, bench->input_period_ns);
		bench_sleep_until(NULL, due_ns, NULL);
		ev[0].value = -ev[0].value;
		if (write(bench->uinput, ev, sizeof(ev)) < 0)
			return;
	}
}

static void bench_server(struct bench_slot *none)
{
	struct bench_datagram d = { 0 }, answer;
	u64 due_ns = bench->epoch_ns;

	(void)none;
	for (;; due_ns += NSEC_PER_SEC / BENCH_NET_HZ) {
		due_ns = bench_next(due_ns, NSEC_PER_SEC / BENCH_NET_HZ);
		bench_sleep_until(NULL, due_ns, NULL);
		while (recv(bench->net_server, &answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
		d.sent_ns = now_ns();
		send(bench->net_server, &d, sizeof(d), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/*
 * Children share one process group, so that one kill reaches them all, a forking
 * load's children too; and none outlives this process, however it ends.
 */
static void bench_spawn(const char *comm, void (*fn)(struct bench_slot *), struct bench_slot *s)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die(EX_OSERR, "bench: cannot fork %s: %s", comm, strerror(errno));
	if (pid == 0) {
		setpgid(0, bench->group);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		prctl(PR_SET_NAME, comm);
		prctl(PR_SET_TIMERSLACK, 1);
		bench_barrier();
		fn(s);
		_exit(0);
	}
	if (!bench->group)
		bench->group = pid;
	setpgid(pid, bench->group);		/* both sides do it, whoever comes first */
	bench->children++;
}

/* ==== bench 6: loads ================================================================= */

static void bench_load_hog(struct bench_slot *s)
{
	for (;;) {
		bench_work_us(&s->work, BENCH_HOG_US);
		atomic_fetch_add(&s->ops, 1);
	}
}

static void bench_load_fork(struct bench_slot *s)
{
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			bench_work_us(&s->work, BENCH_FORK_US);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return;
		atomic_fetch_add(&s->ops, 1);
	}
}

static void bench_load_ping(struct bench_slot *s)
{
	char buf[BENCH_PIPE_BYTES] = "";

	while (write(s->fd[1], buf, sizeof(buf)) == sizeof(buf) &&
	       read(s->fd[2], buf, sizeof(buf)) == sizeof(buf))
		atomic_fetch_add(&s->ops, 1);
}

static void bench_load_pong(struct bench_slot *s)
{
	char buf[BENCH_PIPE_BYTES];

	while (read(s->fd[0], buf, sizeof(buf)) == sizeof(buf) &&
	       write(s->fd[3], buf, sizeof(buf)) == sizeof(buf))
		;
}

static void bench_load_io(struct bench_slot *s)
{
	static char buf[BENCH_IO_BYTES];

	for (off_t at = 0; ; at = (at + sizeof(buf)) % BENCH_IO_FILE_BYTES) {
		buf[0]++;
		if (pwrite(s->fd[0], buf, sizeof(buf), at) != sizeof(buf) || fsync(s->fd[0]) ||
		    pread(s->fd[0], buf, sizeof(buf), at) != sizeof(buf)) {
			note("bench: io load: %s", strerror(errno));
			return;
		}
		atomic_fetch_add(&s->ops, 1);
	}
}

/* A kind of load: one task, or two that are never runnable at once */
static const struct bench_load_kind {
	const char *name;		/* in the report */
	const char *comm;		/* process name; NULL: no kind of its own */
	const char *op;			/* what is counted */
	void (*run)(struct bench_slot *s);
	void (*peer)(struct bench_slot *s);	/* or NULL */
} bench_loads[LOAD_NR] = {
	[LOAD_NONE] = { .name = "none" },
	[LOAD_HOGS] = { "hogs", "load-hog", "0.25 ms of work", bench_load_hog, NULL },
	[LOAD_FORK] = { "fork", "load-fork", "fork, exit, wait", bench_load_fork, NULL },
	[LOAD_PIPE] = { "pipe", "load-pipe", "pipe round trip", bench_load_ping, bench_load_pong },
	[LOAD_IO] = { "io", "load-io", "16 KB write, fsync, read", bench_load_io, NULL },
	[LOAD_MIXED] = { .name = "mixed" },
};

/* The io load's file has no name: on disk if possible, in memory where nothing is writable. */
static void bench_load_start(struct bench_slot *s)
{
	const char *const dirs[] = { getenv("TMPDIR") ?: "", "/var/tmp", "/tmp", "." };
	const struct bench_load_kind *kind = &bench_loads[s->kind];
	bool failed = false;

	memset(s->fd, -1, sizeof(s->fd));
	if (s->kind == LOAD_PIPE)
		failed = pipe2(s->fd, O_CLOEXEC) || pipe2(s->fd + 2, O_CLOEXEC);
	if (s->kind == LOAD_IO) {
		for (u32 i = 0; i < ARRAY_SIZE(dirs) && s->fd[0] < 0; i++)
			s->fd[0] = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (s->fd[0] < 0)
			failed = (s->fd[0] = memfd_create("gamer-bench", MFD_CLOEXEC)) < 0;
	}
	if (failed)
		die(EX_OSERR, "bench: %s: %s", kind->comm, strerror(errno));
	bench_spawn(kind->comm, kind->run, s);
	if (kind->peer)
		bench_spawn(kind->comm, kind->peer, s);
	for (u32 i = 0; i < ARRAY_SIZE(s->fd); i++)	/* not for the next child to inherit */
		if (s->fd[i] >= 0)
			close(s->fd[i]);
}

/* ==== bench 7: setup and run ========================================================= */

static const struct bench_role_info {
	const char *name;	/* in the report */
	const char *comm;	/* thread name; %u: its index */
	void (*run)(struct bench_thread *t);	/* NULL: a process, started by name */
	u32 truth;		/* enum role that a running gamer should find; see bench_truth */
} bench_roles[BR_COUNT] = {
	[BR_SIM] = { "sim", "GameThread", bench_sim, ROLE_RENDER },
	[BR_WORKER] = { "worker", "Job %u", bench_worker, ROLE_WORKER },
	[BR_RENDER] = { "render", "RenderThread", bench_render, ROLE_RENDER },
	[BR_SUBMIT] = { "submit", "SubmitThread", bench_submit, ROLE_GPU },
	[BR_COMPOSITOR] = { "compositor", "compositor", NULL, ROLE_COMPOSITOR },
	[BR_INPUT] = { "input", "InputThread", bench_input, ROLE_INPUT },
	[BR_AUDIO] = { "audio", "AudioThread", bench_audio, ROLE_AUDIO },
	[BR_NETWORK] = { "network", "NetThread", bench_network, ROLE_NETWORK },
};

static void bench_defaults(void)
{
	struct bench_cfg *c = &bench->cfg;
	cpu_set_t set;

	bench->cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
	if (!c->workers)
		c->workers = MAX(MIN(bench->cpus - 1, 3U), 1U);
	if (!c->load_threads)
		c->load_threads = 2 * bench->cpus;
	if (!c->frame_work_us)
		c->frame_work_us = 240000 / c->fps;
	if (!c->iters_per_ms)
		c->iters_per_ms = bench_calibrate();
	bench->slots = c->load == LOAD_NONE ? 0 : MIN(c->load_threads, (u32)BENCH_MAX_LOADS);
	bench->period_ns = NSEC_PER_SEC / c->fps;
	bench->input_period_ns = NSEC_PER_SEC / c->input_hz;
	bench->audio_period_ns = c->audio_frames * NSEC_PER_SEC / BENCH_AUDIO_HZ;
	bench->gpu_ns = bench->period_ns / 4;
	bench->frame_cap = (u64)c->fps * (c->seconds + 1) + (u64)c->fps * c->warmup_ms / 1000 + 16;
	bench->threads = BR_COUNT - 1 + c->workers;
}

/* Zeroed memory that children share, faulted in beforehand: measuring allocates nothing. */
static void *bench_map(u64 n, size_t size)
{
	void *p = mmap(NULL, MAX(n, 1U) * size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die(EX_OSERR, "bench: %zu MB of memory: %s", (size_t)(n * size >> 20),
		    strerror(errno));
	return p;
}

/* The samples of a role's threads lie in one row: in the end they are one distribution. */
static void bench_alloc(void)
{
	const struct bench_cfg *c = &bench->cfg;
	const u64 wakeups_hz[BR_COUNT] = {	/* the most that a thread can count */
		[BR_SIM] = 3 * c->fps, [BR_WORKER] = c->fps, [BR_RENDER] = c->fps,
		[BR_SUBMIT] = c->fps, [BR_COMPOSITOR] = c->fps, [BR_INPUT] = c->input_hz,
		[BR_NETWORK] = BENCH_NET_HZ, [BR_AUDIO] = BENCH_AUDIO_HZ / c->audio_frames + 1,
	};
	struct bench_thread *t;

	bench->frame = bench_map(bench->frame_cap + 1, sizeof(*bench->frame));
	bench->slot = bench_map(bench->slots, sizeof(*bench->slot));
	bench->thread = t = bench_map(bench->threads, sizeof(*t));
	for (u32 role = 0; role < BR_COUNT; role++) {
		u32 n = role == BR_WORKER ? c->workers : 1;
		u32 cap = wakeups_hz[role] * (c->seconds + 1) + 16;
		u32 *wake_ns = bench_map((u64)n * cap, sizeof(u32));

		bench->role[role] = t;
		for (u32 i = 0; i < n; i++, t++)
			*t = (struct bench_thread){
				.role = role, .index = i, .wake_ns = wake_ns + (size_t)i * cap,
				.cap = cap, .work.x = t - bench->thread + 1,
			};
	}
}

static void *bench_thread_main(void *arg)
{
	struct bench_thread *t = arg;
	char comm[16];

	snprintf(comm, sizeof(comm), bench_roles[t->role].comm, t->index);
	t->tid = gettid();
	prctl(PR_SET_NAME, comm);
	prctl(PR_SET_TIMERSLACK, 1);	/* the default of 50 us would be counted as latency */
	bench_barrier();
	bench_roles[t->role].run(t);
	return NULL;
}

/* Has a child ended that should run until it is killed? It stays unreaped. */
static bool bench_child_died(void)
{
	siginfo_t info = { 0 };

	return !waitid(P_PGID, bench->group, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

static void bench_threads_start(void)
{
	for (u32 i = 0; i < bench->threads; i++) {
		struct bench_thread *t = &bench->thread[i];
		int err = t->role == BR_COMPOSITOR ? 0 :
			  pthread_create(&t->pthread, NULL, bench_thread_main, t);

		if (err)
			die(EX_OSERR, "bench: cannot make threads: %s", strerror(err));
	}
}

static void bench_threads_join(u32 first_role, u32 last_role)
{
	for (u32 i = 0; i < bench->threads; i++)
		if (bench->thread[i].role >= first_role && bench->thread[i].role <= last_role)
			pthread_join(bench->thread[i].pthread, NULL);
}

/* Everything up to the barrier, where all threads and children wait */
static void bench_setup(void)
{
	const struct timespec ts = bench_timespec(NSEC_PER_SEC / 5);
	u64 limit_ns = now_ns() + BENCH_SETUP_NS;
	u32 want, ready;

	if (!bench->cfg.no_drm)
		bench_gpu_open();
	if (!bench->cfg.no_uinput)
		bench_uinput_open();
	bench_net_open();
	bench_spawn(bench_roles[BR_COMPOSITOR].comm, bench_compositor, NULL);
	bench_spawn("game-server", bench_server, NULL);
	if (bench->evdev >= 0)
		bench_spawn("mouse-feeder", bench_feeder, NULL);
	for (u32 i = 0; i < bench->slots; i++) {
		struct bench_slot *s = &bench->slot[i];

		s->kind = bench->cfg.load == LOAD_MIXED ? LOAD_HOGS + i % 4 : bench->cfg.load;
		s->work.x = i + 1;
		bench_load_start(s);
	}
	prctl(PR_SET_NAME, BENCH_COMM);	/* now: no child may have it */
	bench_threads_start();
	want = bench->children + bench->threads - 1;	/* the compositor is a child */
	while ((ready = atomic_load(&bench->ready)) < want) {
		if (bench_child_died() || now_ns() > limit_ns)
			die(EX_OSERR, "bench: only %u of %u tasks started", ready, want);
		bench_futex(&bench->ready, FUTEX_WAIT, ready, &ts);
	}
}

/* Ends and reaps every thread, child and orphan of a forking load; descriptors end with us. */
static void bench_teardown(void)
{
	bool died = bench_child_died();

	atomic_store(&bench->stop, 1);
	shutdown(bench->net, SHUT_RDWR);	/* wakes the network thread */
	bench_threads_join(BR_INPUT, BR_NETWORK);
	kill(-bench->group, SIGKILL);
	while (waitpid(-bench->group, NULL, 0) > 0)
		;
	if (died)
		die(EX_OSERR, "bench: a helper or load process ended early, no report");
}

/* The sched_ext scheduler by its own name, else the kernel's own by the kernel's age */
static void bench_scheduler(char *name, size_t size)
{
	struct utsname u;

	if (scx_attached(name, size))
		return;
	uname(&u);
	snprintf(name, size, "%s", strverscmp(u.release, "6.6") >= 0 ? "eevdf" : "cfs");
}

/* Sleeps until when_ns, with a line on a terminal; false: a signal asked to stop */
static bool bench_main_wait(const sigset_t *signals, u64 when_ns)
{
	bool show = isatty(STDERR_FILENO), asked = false;
	u64 now;

	while (!asked && (now = now_ns()) < when_ns) {
		u64 sleep_ns = show ? MIN(when_ns - now, NSEC_PER_SEC) : when_ns - now;
		struct timespec ts = bench_timespec(sleep_ns);

		if (show)
			fprintf(stderr, "\rbench: %.0f s to go, %u frames \033[K",
				(atomic_load(&bench->t1_ns) - now) / 1e9,
				atomic_load(&bench->called));
		asked = sigtimedwait(signals, NULL, &ts) > 0;
		if (show)
			fputs("\r\033[K", stderr);
	}
	return !asked;
}

/* Reads the loads' counters; the moment is noted, since main may be late under load. */
static void bench_loads_read(u32 border)
{
	for (u32 i = 0; i < bench->slots; i++)
		bench->slot[i].ops_at[border] = atomic_load(&bench->slot[i].ops);
	bench->load_ns[border] = now_ns();
}

/* One line of the answer: a thread of ours, or one that the game has nothing to do with */
static void bench_found_line(char *line)
{
	struct bench_found found = { 0 };
	char role[16];
	u32 tid, pid;

	if (sscanf(line, "thread %u %u %*s %15s %15s %u %*s %" SCNu64 " %*s %*s %" SCNu64, &tid,
		   &pid, role, found.source, &found.confidence, &found.role_at_ns,
		   &found.role_wakeups) != 7)
		return;
	while (found.role < ROLE_NR - 1 && strcmp(role_names[found.role], role))
		found.role++;
	for (u32 i = 0; i < bench->threads; i++)
		if (bench->thread[i].tid == tid) {
			bench->thread[i].found = found;
			return;
		}
	if (pid == (u32)getpid())	/* the main thread only waits, whatever it is called */
		bench->known = true;
	else
		bench->outside[found.role]++;
}

/*
 * Asks a running gamer what it takes each thread for, while they live; without one there
 * is nothing to tell. Its answer ends with an empty line.
 */
static void bench_ask(void)
{
	static const char request[] = "{\"v\":1,\"cmd\":\"threads\"}\n";
	struct sockaddr_un sa = socket_address();
	struct pollfd pfd = { .events = POLLIN };
	u64 end_ns = now_ns() + BENCH_ANSWER_NS;
	struct out *o = out_stdout();		/* only its buffer */
	char *line = o->buf, *next;
	ssize_t n = 1;

	bench->answered = false;
	memset(bench->outside, 0, sizeof(bench->outside));
	pfd.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (!connect(pfd.fd, (struct sockaddr *)&sa, sizeof(sa)) &&
	    send(pfd.fd, request, strlen(request), MSG_NOSIGNAL) > 0)
		while (n > 0 && !bench->answered && now_ns() < end_ns) {
			if (poll(&pfd, 1, 100) <= 0)
				continue;
			n = read(pfd.fd, o->buf + o->len, OUT_SIZE - 1 - o->len);
			o->len += MAX(n, 0);
			bench->answered = o->len && (o->len == 1 || o->buf[o->len - 2] == '\n') &&
					  o->buf[o->len - 1] == '\n';
		}
	close(pfd.fd);
	o->buf[o->len] = 0;
	for (; bench->answered && (next = strchr(line, '\n')); line = next + 1) {
		*next = 0;
		bench_found_line(line);
	}
	o->len = 0;
}

/* A game loads for seconds before its first frame: a running gamer may see who we are. */
static void bench_wait_known(void)
{
	u64 end_ns = now_ns() + BENCH_ANSWER_NS;

	do {
		bench_ask();
	} while (bench->answered && !bench->known && now_ns() < end_ns &&
		 !usleep(20 * NSEC_PER_MSEC / NSEC_PER_USEC));
}

/* The run itself, from the barrier's fall until the last frame has been shown */
static void bench_measure(const sigset_t *signals)
{
	char sched[sizeof(bench->sched)];
	u64 t1_ns, called;

	bench->epoch_ns = now_ns() + 20 * NSEC_PER_MSEC;
	bench->t0_ns = bench->epoch_ns + bench->cfg.warmup_ms * NSEC_PER_MSEC;
	t1_ns = bench->t0_ns + bench->cfg.seconds * NSEC_PER_SEC;
	atomic_store(&bench->t1_ns, t1_ns);
	atomic_store(&bench->go, 1);
	bench_futex(&bench->go, FUTEX_WAKE, INT_MAX, NULL);

	bench->interrupted = !bench_main_wait(signals, bench->t0_ns);
	bench_loads_read(0);
	bench_scheduler(bench->sched, sizeof(bench->sched));
	if (!bench->interrupted)
		bench->interrupted = !bench_main_wait(signals, t1_ns);
	bench_loads_read(1);
	if (bench->interrupted)
		atomic_store(&bench->t1_ns, MIN(bench->load_ns[1], t1_ns));
	bench_scheduler(sched, sizeof(sched));
	if (strcmp(sched, bench->sched)) {
		note("bench: the scheduler changed while measuring: %s, %s", bench->sched, sched);
		snprintf(bench->sched, sizeof(bench->sched), "mixed");
	}
	bench_ask();
	atomic_store(&bench->quit, 1);

	bench_threads_join(BR_SIM, BR_SUBMIT);
	called = atomic_load(&bench->called);
	for (u32 i = 0; i < 16 && called && !atomic_load(&bench->frame[called - 1].shown_ns); i++)
		bench_sleep_until(NULL, now_ns() + bench->period_ns, NULL);
}

/* ==== bench 8: figures =============================================================== */

enum { BENCH_P50, BENCH_P95, BENCH_P99, BENCH_P999, BENCH_MAX, BENCH_RANKS };

static const struct {
	const char *label, *key;	/* for people; in JSON */
	double part;			/* of the samples that are at or below it */
} bench_ranks[BENCH_RANKS] = {
	{ "p50", "p50", 0.50 }, { "p95", "p95", 0.95 }, { "p99", "p99", 0.99 },
	{ "p99.9", "p999", 0.999 }, { "max", "max", 1 },
};

struct bench_dist {
	u64 n;				/* samples */
	double v[BENCH_RANKS];		/* nearest-rank percentiles; NAN without samples */
};

static struct bench_dist bench_dist(u32 *ns, u64 n, double unit_ns)
{
	struct bench_dist d = { .n = n };

	qsort(ns, n, sizeof(*ns), bench_cmp_u32);
	for (u32 i = 0; i < BENCH_RANKS; i++)
		d.v[i] = n ? ns[(u64)ceil(bench_ranks[i].part * n) - 1] / unit_ns : NAN;
	return d;
}

struct bench_result {
	double seconds;			/* measured */
	u64 frames;			/* started in the measured interval */
	u64 missed_ticks;		/* limiter ticks at which no frame started */
	u64 late_frames;		/* shown after the vblank that follows their tick */
	u64 dropped_frames;		/* never shown: a newer one was latched */
	u64 jitter_frames;		/* with a wakeup > BENCH_JITTER_NS on their chain */
	double fps, low1_fps, low01_fps;
	struct bench_dist frame_ms, input_ms, wake_us[BR_COUNT];
	u64 load_ops[LOAD_NR];		/* by enum bench_load */
	double load_rate[LOAD_NR];	/* ops per second; NAN without time */
	u64 *at_ns;			/* [frame_ms.n] end of each interval, from t0 */
	u32 *frame_ns;			/* [frame_ms.n] in order of frames */
	char gpu[96];			/* how frames were completed */
};

/* As MangoHud does it: the mean fps of the slowest 1 % (0.1 %) of all frames, rounded up */
static double bench_low_fps(const u32 *sorted_ns, u64 n, double part)
{
	u64 worst = ceil(n * part);
	double sum = 0;

	for (u64 i = n - worst; i < n; i++)
		sum += (double)NSEC_PER_SEC / MAX(sorted_ns[i], 1U);
	return worst ? sum / worst : NAN;
}

/* Frame figures; what is sorted are copies, the plots need the order. */
static void bench_sum_frames(struct bench_result *r)
{
	u32 *input_ns = bench_map(bench->frame_cap, sizeof(u32));
	u32 *sorted_ns = bench_map(bench->frame_cap, sizeof(u32));
	u64 inputs = 0, n = 0, sum_ns = 0, calls = atomic_load(&bench->called);

	r->frame_ns = bench_map(bench->frame_cap, sizeof(u32));
	r->at_ns = bench_map(bench->frame_cap, sizeof(u64));
	for (u64 f = 0; f < calls; f++) {
		struct bench_frame *frame = &bench->frame[f];
		u64 start = (frame->tick_ns - bench->epoch_ns) / bench->period_ns;
		u64 shown_ns = atomic_load(&frame->shown_ns), took_ns;

		if (!bench_measured(frame->tick_ns))
			continue;
		r->frames++;
		r->jitter_frames += atomic_load(&frame->jitter_ns) > BENCH_JITTER_NS;
		if (!shown_ns)
			r->dropped_frames++;
		else if ((shown_ns - bench->epoch_ns) / bench->period_ns > start + 1)
			r->late_frames++;
		if (shown_ns && frame->input_ns)
			input_ns[inputs++] = MIN(shown_ns - frame->input_ns, (u64)UINT32_MAX);
		if (!f)
			continue;
		took_ns = frame->call_ns - frame[-1].call_ns;
		sum_ns += took_ns;
		r->at_ns[n] = frame->call_ns - bench->t0_ns;
		sorted_ns[n] = r->frame_ns[n] = MIN(took_ns, (u64)UINT32_MAX);
		n++;
	}
	r->input_ms = bench_dist(input_ns, inputs, NSEC_PER_MSEC);
	r->frame_ms = bench_dist(sorted_ns, n, NSEC_PER_MSEC);
	r->fps = n ? n * (double)NSEC_PER_SEC / sum_ns : NAN;
	r->low1_fps = bench_low_fps(sorted_ns, n, 0.01);
	r->low01_fps = bench_low_fps(sorted_ns, n, 0.001);
}

static void bench_summarize(struct bench_result *r)
{
	u64 t1_ns = atomic_load(&bench->t1_ns), ticks;
	double load_s = (bench->load_ns[1] - bench->load_ns[0]) / (double)NSEC_PER_SEC;

	r->seconds = t1_ns > bench->t0_ns ? (t1_ns - bench->t0_ns) / (double)NSEC_PER_SEC : 0;
	bench_sum_frames(r);
	ticks = r->seconds * NSEC_PER_SEC / bench->period_ns;
	r->missed_ticks = ticks > r->frames ? ticks - r->frames : 0;
	for (u32 role = 0; role < BR_COUNT; role++) {	/* a role's samples lie in one row */
		struct bench_thread *t = bench->role[role];
		u32 *wake_ns = t->wake_ns, n = 0;

		for (; t < bench->thread + bench->threads && t->role == role; n += t++->count)
			memmove(wake_ns + n, t->wake_ns, t->count * sizeof(u32));
		r->wake_us[role] = bench_dist(wake_ns, n, NSEC_PER_USEC);
	}
	for (u32 i = 0; i < bench->slots; i++) {
		struct bench_slot *s = &bench->slot[i];

		r->load_ops[s->kind] += s->ops_at[1] - s->ops_at[0];
	}
	for (u32 kind = 0; kind < LOAD_NR; kind++)
		r->load_rate[kind] = load_s > 0 ? r->load_ops[kind] / load_s : NAN;
	if (bench->gpu < 0)
		snprintf(r->gpu, sizeof(r->gpu), "timer");
	else if (bench->gpu_fences == bench->gpu_submits)
		snprintf(r->gpu, sizeof(r->gpu), "%s fences", bench->gpu_name);
	else
		snprintf(r->gpu, sizeof(r->gpu), "%s submits, completed by timer (%s)",
			 bench->gpu_name, strerror(bench->gpu_error));
}

/* ==== bench 9: output ================================================================ */

static void bench_json_dist(struct json *j, const char *key, const struct bench_dist *d)
{
	json_open(j, key, '{');
	json_u64(j, "n", d->n);
	for (u32 i = 0; i < BENCH_RANKS; i++)
		json_f64(j, bench_ranks[i].key, d->v[i], 3);
	json_close(j, '}');
}

/* Without a device to submit to, what submits is one more stage of the frame. */
static u32 bench_truth(const struct bench_thread *t)
{
	u32 role = bench_roles[t->role].truth;

	return role == ROLE_GPU && bench->gpu < 0 ? ROLE_RENDER : role;
}

/*
 * From the first event that tells the role, else the first wakeup, until it was known; us.
 * Less than 0: known before the call returned, or earlier by other evidence.
 */
static double bench_role_us(const struct bench_thread *t)
{
	u64 from_ns = t->event_ns ? t->event_ns : t->woke_ns;

	if (!t->found.role_at_ns || !from_ns)
		return NAN;
	return (s64)(t->found.role_at_ns - from_ns) / (double)NSEC_PER_USEC;
}

/* Each thread and what it was found to be; of others' threads only how many. */
static void bench_json_roles(struct json *j)
{
	json_open(j, "roles", '{');
	json_open(j, "threads", '[');
	for (u32 i = 0; i < bench->threads; i++) {
		const struct bench_thread *t = &bench->thread[i];

		json_open(j, NULL, '{');
		json_str(j, "thread", bench_roles[t->role].name);
		json_u64(j, "tid", t->tid);
		json_str(j, "truth", role_names[bench_truth(t)]);
		json_str(j, "found", role_names[t->found.role]);
		json_str(j, "source", t->found.source);
		json_u64(j, "confidence", t->found.confidence);
		json_f64(j, "us", bench_role_us(t), 3);
		json_u64(j, "wakeups", t->found.role_wakeups);
		json_close(j, '}');
	}
	json_close(j, ']');
	json_open(j, "outside", '{');
	for (u32 role = 0; role < ROLE_NR; role++)
		json_u64(j, role_names[role], bench->outside[role]);
	json_close(j, '}');
	json_close(j, '}');
}

static void bench_write_json(struct out *o, const struct bench_result *r)
{
	const struct bench_cfg *c = &bench->cfg;
	struct json j;

	json_begin(&j, o, "bench");
	json_str(&j, "scheduler", bench->sched);
	json_open(&j, "config", '{');
	json_u64(&j, "cpus", bench->cpus);
	json_u64(&j, "seconds", c->seconds);
	json_u64(&j, "warmup_ms", c->warmup_ms);
	json_u64(&j, "fps", c->fps);
	json_u64(&j, "workers", c->workers);
	json_u64(&j, "frame_work_us", c->frame_work_us);
	json_u64(&j, "iters_per_ms", c->iters_per_ms);
	json_u64(&j, "input_hz", c->input_hz);
	json_u64(&j, "audio_frames", c->audio_frames);
	json_str(&j, "load", bench_loads[c->load].name);
	json_u64(&j, "load_threads", bench->slots);
	json_str(&j, "gpu", r->gpu);
	json_str(&j, "input", bench->evdev >= 0 ? "uinput" : "timer");
	json_str(&j, "network", bench->net_udp ? "udp" : "unix");
	json_close(&j, '}');
	json_f64(&j, "measured_s", r->seconds, 3);
	json_key(&j, "interrupted");
	out_f(o, bench->interrupted ? "true" : "false");
	json_u64(&j, "frames", r->frames);
	json_u64(&j, "late_frames", r->late_frames);
	json_u64(&j, "dropped_frames", r->dropped_frames);
	json_u64(&j, "missed_ticks", r->missed_ticks);
	json_u64(&j, "jitter_frames", r->jitter_frames);
	json_u64(&j, "audio_periods", bench->audio_periods);
	json_u64(&j, "audio_xruns", bench->audio_xruns);
	json_u64(&j, "input_events", bench->input_events);
	json_u64(&j, "datagrams", bench->datagrams);
	json_f64(&j, "jitter_percent", r->frames ? 100.0 * r->jitter_frames / r->frames : NAN, 2);
	json_f64(&j, "fps", r->fps, 3);
	json_f64(&j, "fps_low1", r->low1_fps, 3);
	json_f64(&j, "fps_low01", r->low01_fps, 3);
	bench_json_dist(&j, "frame_time_ms", &r->frame_ms);
	bench_json_dist(&j, "input_present_ms", &r->input_ms);
	json_open(&j, "wakeup_us", '{');
	for (u32 role = 0; role < BR_COUNT; role++)
		bench_json_dist(&j, bench_roles[role].name, &r->wake_us[role]);
	json_close(&j, '}');
	json_open(&j, "load", '{');
	for (u32 kind = LOAD_HOGS; kind < LOAD_MIXED; kind++)
		if (c->load == kind || c->load == LOAD_MIXED) {
			json_open(&j, bench_loads[kind].name, '{');
			json_u64(&j, "ops", r->load_ops[kind]);
			json_f64(&j, "ops_per_s", r->load_rate[kind], 1);
			json_close(&j, '}');
		}
	json_close(&j, '}');
	if (bench->answered)
		bench_json_roles(&j);
	json_end(&j);
}

/* A figure in `width` columns behind its label, "-" where there is none */
static void bench_cell(struct out *o, const char *label, double v, int width, int digits)
{
	if (isnan(v))
		out_f(o, "%s%*s", label, width, "-");
	else
		out_f(o, "%s%*.*f", label, width, digits, v);
}

static void bench_table_head(struct out *o, const char *what)
{
	out_f(o, "\n%-20s%9s", what, "n");
	for (u32 i = 0; i < BENCH_RANKS; i++)
		out_f(o, "%10s", bench_ranks[i].label);
	out_f(o, "\n");
}

static void bench_row(struct out *o, const char *label, const struct bench_dist *d, int digits)
{
	out_f(o, "  %-18s%9" PRIu64, label, d->n);
	for (u32 i = 0; i < BENCH_RANKS; i++)
		bench_cell(o, "", d->v[i], 10, digits);
	out_f(o, "\n");
}

static void bench_count_row(struct out *o, const char *label, u64 n, u64 of, const char *what)
{
	out_f(o, "  %-18s%9" PRIu64, label, n);
	bench_cell(o, "", of ? 100.0 * n / of : NAN, 8, 2);
	out_f(o, " %%  %s\n", what);
}

static void bench_counts(struct out *o, const char *label, const u32 *count)
{
	out_f(o, "  %-11s", label);
	for (u32 role = 0; role < ROLE_NR; role++)
		out_f(o, count[role] ? "%5u" : "    .", count[role]);
}

/* What the threads of one kind were found to be, the right ones among them, and the slowest */
static void bench_role_row(struct out *o, u32 kind)
{
	const struct bench_thread *t = bench->role[kind], *end = bench->thread + bench->threads;
	const char *source = t->found.source;
	u32 count[ROLE_NR] = { 0 }, n = 0;
	double us = NAN;
	u64 wakeups = 0;

	for (; t < end && t->role == kind; t++, n++) {
		count[t->found.role]++;
		us = fmax(us, bench_role_us(t));
		wakeups = MAX(wakeups, t->found.role_wakeups);
		if (strcmp(source, t->found.source))
			source = "several";
	}
	bench_counts(o, bench_roles[kind].name, count);
	out_f(o, "%4u/%-3u%-8s", count[bench_truth(bench->role[kind])], n, source);
	bench_cell(o, "", us, 11, 0);
	out_f(o, "%8" PRIu64 "\n", wakeups);
}

/* Confusion matrix: a row per kind of thread, a column per role that gamer found */
static void bench_write_roles(struct out *o)
{
	out_f(o, "\n%-13s", "roles found");
	for (u32 role = 0; role < ROLE_NR; role++)
		out_f(o, " %4.4s", role_names[role]);
	out_f(o, "  right source %11s %7s\n", "after us", "wakeups");
	for (u32 kind = 0; kind < BR_COUNT; kind++)
		bench_role_row(o, kind);
	bench_counts(o, "outside", bench->outside);
	out_f(o, "\n");
}

static void bench_write_text(struct out *o, const struct bench_result *r)
{
	const u64 all = r->frames, ticks = all + r->missed_ticks;
	const struct bench_cfg *c = &bench->cfg;

	out_f(o, "gamer bench: %.1f s under %s, %u CPUs, load %s", r->seconds, bench->sched,
	      bench->cpus, bench_loads[c->load].name);
	if (bench->slots)
		out_f(o, " x %u", bench->slots);
	out_f(o, "%s\n", bench->interrupted ? " (interrupted)" : "");
	out_f(o, "  game     %u fps, %u us of work per frame, %u job worker%s, GPU: %s\n", c->fps,
	      c->frame_work_us, c->workers, c->workers == 1 ? "" : "s", r->gpu);
	out_f(o, "  beside   input %u Hz by %s, audio %u frames, network %u Hz by %s\n",
	      c->input_hz, bench->evdev >= 0 ? "uinput" : "timer", c->audio_frames,
	      BENCH_NET_HZ, bench->net_udp ? "UDP" : "socket pair");
	out_f(o, "  repeat   the same work with --iters-per-ms %" PRIu64 "\n", c->iters_per_ms);
	bench_table_head(o, "milliseconds");
	bench_row(o, "frame time", &r->frame_ms, 2);
	bench_row(o, "input to present", &r->input_ms, 2);
	bench_table_head(o, "wakeup latency, us");
	for (u32 role = 0; role < BR_COUNT; role++)
		bench_row(o, bench_roles[role].name, &r->wake_us[role], 1);
	bench_cell(o, "\n  frames per second ", r->fps, 9, 1);
	bench_cell(o, "   1 % low", r->low1_fps, 7, 1);
	bench_cell(o, "   0.1 % low", r->low01_fps, 7, 1);
	out_f(o, "\n");
	bench_count_row(o, "frames", all, all, "started by the limiter");
	bench_count_row(o, "late frames", r->late_frames, all, "shown after the next vblank");
	bench_count_row(o, "dropped frames", r->dropped_frames, all, "never shown");
	bench_count_row(o, "missed ticks", r->missed_ticks, ticks, "no frame started");
	bench_count_row(o, "jittery frames", r->jitter_frames, all, "a wakeup was > 500 us late");
	bench_count_row(o, "audio xruns", bench->audio_xruns, bench->audio_periods,
			"of the periods");
	for (u32 kind = LOAD_HOGS; kind < LOAD_MIXED; kind++)
		if (c->load == kind || c->load == LOAD_MIXED) {
			out_f(o, "  load %-13s", bench_loads[kind].name);
			bench_cell(o, "", r->load_rate[kind], 9, 0);
			out_f(o, " /s        %s\n", bench_loads[kind].op);
		}
	if (bench->answered)
		bench_write_roles(o);
}

/* The value of the first "key : value" or "key=value" line, without quotes and commas */
static void bench_file_value(const char *path, const char *key, char *value, size_t size)
{
	FILE *f = fopen(path, "re");
	char line[512], *from;
	size_t n = 0;

	while (f && !n && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) || !(from = strpbrk(line, ":=")))
			continue;
		for (from += 1 + strspn(from + 1, " \t\""); *from && n + 1 < size; from++)
			if (!strchr("\",\n", *from))
				value[n++] = *from;
	}
	value[n] = 0;
	if (f)
		fclose(f);
}

/* A log as MangoHud 0.8 writes it; where it has no sensor it writes 0, and so do we. */
static void bench_write_csv(struct out *o, const struct bench_result *r)
{
	char os[128], cpu[128], ram[32];
	struct utsname u = { 0 };

	uname(&u);
	bench_file_value("/etc/os-release", "PRETTY_NAME", os, sizeof(os));
	bench_file_value("/proc/cpuinfo", "model name", cpu, sizeof(cpu));
	bench_file_value("/proc/meminfo", "MemTotal", ram, sizeof(ram));
	out_f(o, "os,cpu,gpu,ram,kernel,driver,cpuscheduler\n%s,%s,%s,%.*s,%s,,%s\n", os, cpu,
	      bench->gpu_name, (int)strcspn(ram, " "), ram, u.release, bench->sched);
	out_f(o, "fps,frametime,cpu_load,cpu_power,gpu_load,cpu_temp,gpu_temp,gpu_core_clock,"
	      "gpu_mem_clock,gpu_vram_used,gpu_power,ram_used,swap_used,process_rss,cpu_mhz,"
	      "elapsed\n");
	for (u64 i = 0; i < r->frame_ms.n; i++)
		out_f(o, "%.4f,%.5f,0,0,0,0,0,0,0,0,0,0,0,0,0,%" PRIu64 "\n",
		      (double)NSEC_PER_SEC / MAX(r->frame_ns[i], 1U), r->frame_ns[i] / 1e6,
		      r->at_ns[i]);
}

/* A plot: its values at the borders (y begins at 0) and its size in pixels */
struct bench_plot {
	double x0, x1, y1;
	double width, height;
	double xscale, yscale;		/* pixels per value; bench_svg_grid */
	bool log;			/* y is the decimal logarithm of what is shown */
	const char *xtitle, *ytitle;
};

/* A step of 1, 2 or 5 times a power of ten that divides span at most `most` times */
static double bench_nice_step(double span, int most)
{
	static const double times[] = { 2, 2.5, 2 };
	double step = 0.001;

	for (u32 i = 0; span / step > most; i++)
		step *= times[i % ARRAY_SIZE(times)];
	return step;
}

/* Axes and titles. The plot's lower left corner is at 0,0: y is negative in it. */
static void bench_svg_grid(struct out *o, struct bench_plot *p)
{
	double xstep = bench_nice_step(p->x1 - p->x0, 10);
	double ystep = p->log ? 1 : bench_nice_step(p->y1, 6);

	p->xscale = p->width / (p->x1 - p->x0);
	p->yscale = p->height / p->y1;
	for (u64 i = ceil(p->x0 / xstep - 1e-9); i * xstep <= p->x1 * (1 + 1e-9); i++) {
		double x = (i * xstep - p->x0) * p->xscale;

		out_f(o, "<path class='g' d='M%.1f 0v%g'/>", x, -p->height);
		out_f(o, "<text class='m' x='%.1f' y='17'>%g</text>\n", x, i * xstep);
	}
	for (u32 i = 0; i * ystep <= p->y1 * (1 + 1e-9); i++) {
		double y = i * ystep * -p->yscale;

		out_f(o, "<path class='g' d='M0 %.1fh%g'/>", y, p->width);
		out_f(o, "<text class='e' x='-7' y='%.1f'>%g</text>\n", y + 4,
		      p->log ? pow(10, i) : i * ystep);
	}
	out_f(o, "<text class='m' x='%g' y='36'>%s</text>", p->width / 2, p->xtitle);
	out_f(o, "<text class='m' transform='translate(-48 %g)rotate(-90)'>%s</text>\n",
	      -p->height / 2, p->ytitle);
}

/* Frame times over time: per column of pixels the largest and smallest, so no spike hides */
static void bench_svg_times(struct out *o, const struct bench_result *r)
{
	double period_ms = bench->period_ns / 1e6, most = r->frame_ms.v[BENCH_MAX], y;
	struct bench_plot p = {
		.x1 = MAX(r->seconds, 0.001), .y1 = MAX(most, 2 * period_ms) * 1.04,
		.width = 860, .height = 260, .xtitle = "time, s", .ytitle = "frame time, ms",
	};

	bench_svg_grid(o, &p);
	for (u64 i = 0; i < r->frame_ms.n; ) {
		const char *pen = i ? "L" : "<path class='l' d='M";
		double x = floor(r->at_ns[i] / 1e9 * p.xscale);
		u32 lo = UINT32_MAX, hi = 0;

		for (; i < r->frame_ms.n && r->at_ns[i] / 1e9 * p.xscale < x + 1; i++) {
			lo = MIN(lo, r->frame_ns[i]);
			hi = MAX(hi, r->frame_ns[i]);
		}
		out_f(o, "%s%g %.1fV%.1f", pen, x, hi / 1e6 * -p.yscale, lo / 1e6 * -p.yscale);
	}
	y = period_ms * -p.yscale;
	out_f(o, "'/>\n<path class='t' d='M0 %.1fh%g'/>", y, p.width);
	out_f(o, "<text class='s' x='%g' y='%.1f'>%u fps</text>\n", p.width + 4, y + 4,
	      bench->cfg.fps);
}

/* How many frames took how long, on a logarithmic scale so that single frames are seen */
static void bench_svg_histogram(struct out *o, const struct bench_result *r)
{
	enum { BINS = 172, BIN_PX = 5, MIN_PX = 3 };
	double step, max_ms = r->frame_ms.v[BENCH_MAX], min_ms = max_ms;
	struct bench_plot p = { .width = BINS * BIN_PX, .height = 170, .log = true,
				.xtitle = "frame time, ms", .ytitle = "frames" };
	u32 count[BINS] = { 0 }, most = 10;

	for (u64 i = 0; i < r->frame_ms.n; i++)
		min_ms = MIN(min_ms, r->frame_ns[i] / 1e6);
	step = bench_nice_step(MAX(max_ms - min_ms, 0.1), 10);
	p.x0 = floor(min_ms / step) * step;
	p.x1 = MAX(ceil(max_ms / step) * step, p.x0 + step);
	for (u64 i = 0; i < r->frame_ms.n; i++) {
		u32 bin = (r->frame_ns[i] / 1e6 - p.x0) / (p.x1 - p.x0) * BINS;

		bin = MIN(bin, BINS - 1U);
		most = MAX(most, ++count[bin]);
	}
	p.y1 = ceil(log10(most));
	bench_svg_grid(o, &p);
	for (u32 i = 0; i < BINS; i++) {
		double px = MAX(log10(count[i]) * p.yscale, MIN_PX);

		if (count[i])
			out_f(o, "<rect class='b' x='%u' y='%.1f' width='%g' height='%.1f'/>\n",
			      i * BIN_PX, -px, BIN_PX - 0.5, px);
	}
	for (u32 i = 0; i < BENCH_MAX; i++) {	/* lower to the right: no line crosses a label */
		double x = (r->frame_ms.v[i] - p.x0) * p.xscale, y = 11.0 * i - p.height - 38;

		out_f(o, "<path class='t' d='M%.1f %.1fV0'/>", x, y - 7);
		out_f(o, "<text class='s' x='%.1f' y='%g'>%s</text>\n", x + 3, y,
		      bench_ranks[i].label);
	}
}

static const char bench_svg_head[] =
	"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1000 660' width='1000' height='660'"
	" font-family='system-ui,sans-serif' font-size='12'>\n<style>"
	".bg{fill:#fff}text{fill:#333}.h{font-size:17px;font-weight:600}.m{text-anchor:middle}"
	".e{text-anchor:end}.s{font-size:11px}.g{stroke:#ddd;fill:none}"
	".l{stroke:#1668b8;fill:none;stroke-linejoin:round}.b{fill:#1668b8}"
	".t{stroke:#c2410c;fill:none;stroke-dasharray:5 3}"
	"@media(prefers-color-scheme:dark){.bg{fill:#16181c}text{fill:#d6d9de}.g{stroke:#363a41}"
	".l{stroke:#62b0ff}.b{fill:#62b0ff}.t{stroke:#fb923c}}</style>\n"
	"<rect class='bg' width='1000' height='660'/>\n";

static void bench_write_svg(struct out *o, const struct bench_result *r)
{
	out_f(o, "%s<text class='h' x='70' y='32'>gamer bench: frame times under %s, load %s",
	      bench_svg_head, bench->sched, bench_loads[bench->cfg.load].name);
	if (bench->slots)
		out_f(o, " x %u", bench->slots);
	out_f(o, "</text>\n<text x='70' y='54'>%" PRIu64 " frames", r->frames);
	if (r->frame_ms.n) {
		out_f(o, ", %.1f fps, 1 %% low %.1f, 0.1 %% low %.1f", r->fps, r->low1_fps,
		      r->low01_fps);
		for (u32 i = 0; i < BENCH_RANKS; i++)
			out_f(o, "; %s %.2f ms", bench_ranks[i].label, r->frame_ms.v[i]);
	}
	out_f(o, "</text>\n");
	if (r->frame_ms.n) {
		out_f(o, "<g transform='translate(70 340)'>\n");
		bench_svg_times(o, r);
		out_f(o, "</g>\n<g transform='translate(70 602)'>\n");
		bench_svg_histogram(o, r);
		out_f(o, "</g>\n");
	}
	out_f(o, "</svg>\n");
}

/*
 * Finds out now what would fail after the run. A file that is only there from the test is
 * taken away again, so that nothing is left should the run be killed.
 */
static void bench_check_file(const char *path)
{
	int fd;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno == ENOENT) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0)
			unlink(path);
	}
	if (fd < 0)
		die(EX_CANTCREAT, "bench: cannot write %s: %s", path, strerror(errno));
	close(fd);
}

/* Writes one form of the report: to stdout, or to the file `path`. Returns the exit code. */
static int bench_write(const char *path, const struct bench_result *r,
		       void (*write_fn)(struct out *, const struct bench_result *))
{
	struct out *o = out_stdout();

	if (path)
		o->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	o->failed = o->fd < 0;
	if (!o->failed) {
		write_fn(o, r);
		out_flush(o);
	}
	if (o->failed || (path && close(o->fd))) {
		note("bench: cannot write %s: %s", path ? path : "the report", strerror(errno));
		return EX_IOERR;
	}
	return 0;
}

/* Runs and reports; returns the exit code. A signal ends the run early, with its report. */
static int bench_run(const struct bench_cfg *cfg)
{
	struct bench_result r = { 0 };
	sigset_t signals;
	int rc;

	bench_check_file(cfg->svg);
	bench_check_file(cfg->csv);
	/* blocked for good, in all threads and children: only the main thread's wait sees them */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);	/* to reap the forking load's orphans */
	fflush(NULL);				/* or children would flush it once more */

	bench = bench_map(1, sizeof(*bench));
	bench->cfg = *cfg;
	bench->uinput = bench->evdev = bench->gpu = -1;
	bench->quit_frame = UINT32_MAX;
	bench_defaults();
	bench_alloc();
	bench_setup();
	bench_wait_known();
	bench_measure(&signals);
	bench_teardown();
	bench_summarize(&r);
	rc = bench_write(NULL, &r, cfg->json ? bench_write_json : bench_write_text);
	if (cfg->svg)
		rc = MAX(rc, bench_write(cfg->svg, &r, bench_write_svg));
	if (cfg->csv)
		rc = MAX(rc, bench_write(cfg->csv, &r, bench_write_csv));
	return rc;
}

/* ===================================================================================== */
/* 14. commands                                                                          */
/* ===================================================================================== */

/* One instance: the lock goes with the process, however it ends. */
static void run_lock(void)
{
	char path[128];

	if (mkdir(runtime_dir(), 0755) && errno != EEXIST)
		die(errno == EACCES || errno == EPERM ? EX_NOPERM : EX_SOFTWARE,
		    "cannot make %s: %s", runtime_dir(), strerror(errno));
	snprintf(path, sizeof(path), "%s/lock", runtime_dir());
	st.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (st.lock_fd < 0)
		die(errno == EACCES ? EX_NOPERM : EX_SOFTWARE, "cannot open %s: %s", path,
		    strerror(errno));
	if (flock(st.lock_fd, LOCK_EX | LOCK_NB))
		die(EX_TEMPFAIL, "another gamer is running (%s is locked)", path);
}

/* What this kernel offers, into st; NULL, or why it cannot run gamer. */
static const char *kernel_check(void)
{
	const char *why = NULL;
	struct btf *btf = kernel_btf(&why);
	int i;

	for (i = 0; i < HOOK_NR; i++)
		st.hook_why[i] = why;
	if (btf)
		why = kernel_probe(btf);
	btf__free(btf);
	return !why && !opt[OPT_OBSERVE].n && access(SCX_DIR, F_OK) ? "no " SCX_DIR : why;
}

static void run_check_kernel(void)
{
	const char *why = kernel_check(), *caps;
	struct utsname un;
	char name[128];

	uname(&un);
	if (why)
		die(EX_UNAVAILABLE, "kernel %s cannot run gamer: %s", un.release, why);
	caps = missing_capability();
	if (caps)
		die(EX_NOPERM, "not permitted: %s is missing (run as root)", caps);
	run_lock();
	if (!opt[OPT_OBSERVE].n && scx_attached(name, sizeof(name)))
		die(EX_TEMPFAIL, "scheduler '%s' is attached", name);
}

/* Note why it ended where people look for it; returns the exit code. */
static int run_ended(const char *what)
{
	/* sysrq-S is a person who wants the machine back: not to be restarted by systemd */
	int code = (u32)st.exit_event.kind == st.kernel_const[KCONST_SCX_EXIT_SYSRQ] ? EX_OK :
		   EX_SOFTWARE;
	char text[512];
	int n;

	n = snprintf(text, sizeof(text), "exit=%d kind=%d code=0x%" PRIx64 " what=%s reason=%s msg=%s\n",
		     code, st.exit_event.kind, (u64)st.exit_event.exit_code, what,
		     st.exit_event.reason, st.exit_event.msg);
	write_atomic("last_exit", text, MIN(n, (int)sizeof(text) - 1));
	note("%s: %s%s%s", what, st.exit_event.reason, st.exit_event.msg[0] ? ": " : "",
	     st.exit_event.msg);
	return code;
}

/* Did the kernel let go only because CPUs came or went? */
static bool run_wants_restart(void)
{
	return st.exited &&
	       (st.exit_event.exit_code & st.kernel_const[KCONST_SCX_ECODE_ACT_RESTART]);
}

/* Attach, serve, detach once. Returns an exit code, or -1: start again with a new topology. */
static int run_once(void)
{
	int err, code = EX_OK;
	char text[128];

	topo_read();
	bpf_load();
	err = bpf_attach();
	if (err) {
		ring_buffer__consume(st.ring);
		if (!run_wants_restart())
			code = run_ended(strerror(-err));
		else
			code = -1;
		bpf_unload();
		return code;
	}
	loop_add(ring_buffer__epoll_fd(st.ring), EV_RING);
	game_open();
	summary(text, sizeof(text));
	note("%s", text);
	status_publish();
	st.allocs = 0;
	st.attached = true;
	loop();
	if (st.exited && run_wants_restart())
		code = -1;
	else if (st.exited)
		code = run_ended("the kernel ended the scheduler");
	game_close();
	bpf_unload();
	return code;
}

static int cmd_run(void)
{
	struct sockaddr_un sa = socket_address();
	int code;

	hooks_parse(opt[OPT_HOOKS].s);
	parts_parse(opt[OPT_WITHOUT].s);
	game_check_option();
	run_check_kernel();
	loop_open();
	while ((code = run_once()) < 0 && !st.stop)
		st.restarts++;
	sd_notify_("STOPPING=1");
	unlink(sa.sun_path);
	write_atomic("status", "gamer: stopped\n", 15);
	return MAX(code, 0);
}

/* Ask the running gamer; its answer goes to stdout. */
static int cmd_status(void)
{
	struct sockaddr_un sa = socket_address();
	const char *what = opt[OPT_JSON].n ? "status" : opt[OPT_METRICS].n ? "metrics" : "text";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct out *o = out_stdout();
	char request[64];
	ssize_t n;

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		die(errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE, "%s: %s",
		    errno == EACCES ? "not permitted" : "no running gamer", sa.sun_path);
	snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"%s\"}\n", what);
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		die(EX_SOFTWARE, "%s: %s", sa.sun_path, strerror(errno));
	shutdown(fd, SHUT_WR);
	while ((n = read(fd, o->buf, sizeof(o->buf))) > 0) {
		o->len = n;
		out_flush(o);
	}
	close(fd);
	return n < 0 || o->failed ? EX_SOFTWARE : EX_OK;
}

/* What a hook attaches to, of what this kernel has: "fentry drm_ioctl, ..." */
static const char *hook_places(u32 id)
{
	static const char *const kinds[] = { "tp_btf", "fentry", "lsm", "kprobe", "uprobe" };
	static char text[256];
	size_t n = 0, i;

	text[0] = 0;
	for (i = 0; i < PROG_NR && n < sizeof(text); i++)
		if (progs[i].hook == id && !st.prog_why[i])
			n += snprintf(text + n, sizeof(text) - n, "%s%s %s", n ? ", " : " ",
				      kinds[progs[i].kind], progs[i].target);
	return text;
}

static void check_text(const char *release, const char *why, const char *attached)
{
	struct out *o = out_stdout();
	int i;

	out_f(o, "kernel      %s\n", release);
	out_f(o, "sched_ext   %s\n", why ? why : attached ? attached : "available");
	out_f(o, "permission  %s\n", missing_capability() ? : "sufficient");
	for (i = 0; i < HOOK_NR; i++)
		out_f(o, "hook %-10s %s%s%s  (%s)\n", hooks[i].name,
		      st.hook_why[i] ? st.hook_why[i] : "available",
		      st.hook_why[i] ? "; instead: " : hook_places(i),
		      st.hook_why[i] ? hooks[i].fallback : "", hooks[i].help);
	out_flush(o);
}

static void check_json(const char *release, const char *why, const char *attached)
{
	struct out *o = out_stdout();
	struct json j;
	int i;

	json_begin(&j, o, "check");
	json_str(&j, "kernel", release);
	json_u64(&j, "sched_ext", !why);
	json_str(&j, "why", why ? why : "");
	json_str(&j, "attached", attached ? attached : "");
	json_str(&j, "missing_capability", missing_capability() ? : "");
	json_open(&j, "hooks", '[');
	for (i = 0; i < HOOK_NR; i++) {
		json_open(&j, NULL, '{');
		json_str(&j, "name", hooks[i].name);
		json_u64(&j, "available", !st.hook_why[i]);
		if (st.hook_why[i]) {
			json_str(&j, "why", st.hook_why[i]);
			json_str(&j, "instead", hooks[i].fallback);
		} else {
			json_str(&j, "by", hook_places(i));
		}
		json_close(&j, '}');
	}
	json_close(&j, ']');
	json_end(&j);
	out_flush(o);
}

static int cmd_check(void)
{
	const char *why;
	struct utsname un;
	char name[128];
	bool attached;

	hooks_parse(opt[OPT_HOOKS].s);
	uname(&un);
	why = kernel_check();
	attached = scx_attached(name, sizeof(name));
	if (opt[OPT_JSON].n)
		check_json(un.release, why, attached ? name : NULL);
	else
		check_text(un.release, why, attached ? name : NULL);
	return EX_OK;
}

static int cmd_bench(void)
{
	const struct bench_cfg cfg = {
		.seconds = opt[OPT_SECONDS].n, .warmup_ms = opt[OPT_WARMUP_MS].n,
		.fps = opt[OPT_FPS].n, .workers = opt[OPT_WORKERS].n,
		.input_hz = opt[OPT_INPUT_HZ].n, .audio_frames = opt[OPT_AUDIO_FRAMES].n,
		.load = opt[OPT_LOAD].n, .load_threads = opt[OPT_LOAD_THREADS].n,
		.iters_per_ms = opt[OPT_ITERS_PER_MS].n,
		.frame_work_us = opt[OPT_FRAME_WORK_US].n,
		.no_uinput = opt[OPT_NO_UINPUT].n, .no_drm = opt[OPT_NO_DRM].n,
		.json = opt[OPT_JSON].n, .svg = opt[OPT_SVG].s, .csv = opt[OPT_CSV].s,
	};

	return bench_run(&cfg);
}

static int cmd_unit(void)
{
	static const char unit[] =
		"[Unit]\n"
		"Description=gamer, a scheduler that runs the next frame first\n"
		"ConditionPathExists=/sys/kernel/sched_ext\n"
		"\n"
		"[Service]\n"
		"Type=notify\n"
		"ExecStart=%s run\n"
		"RuntimeDirectory=gamer\n"
		"RuntimeDirectoryPreserve=yes\n"	/* last_exit is read after the end */
		"StateDirectory=gamer\n"
		"Restart=on-failure\n"
		"RestartSec=2\n"
		"RestartPreventExitStatus=64 69 77 78\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n";
	char self[256];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[MAX(n, 0)] = 0;
	printf(unit, n > 0 ? self : "/usr/local/bin/gamer");
	return EX_OK;
}

static const char *const opt_types[] = { "flag", "number", "string", "choice" };

/* For tests and completions: command, long, letter, type, default, min, max, choices. */
static int cmd_options(void)
{
	size_t c, i;

	for (c = 0; c < CMD_NR; c++)
		for (i = 0; i < OPT_NR; i++) {
			const struct option_desc *d = &options[i];

			if (!(d->cmds & (1u << c)))
				continue;
			printf("%s\t--%s\t%c%c\t%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%s\n",
			       commands[c].name, d->name, '-', d->letter ? d->letter : ' ',
			       opt_types[d->type], d->def, d->min, d->max, d->arg ? d->arg : "");
		}
	return EX_OK;
}

/* ===================================================================================== */
/* 15. main                                                                              */
/* ===================================================================================== */

static void help_option(const struct option_desc *d)
{
	char left[48];

	snprintf(left, sizeof(left), "%c%c %s--%s%s%s", d->letter ? '-' : ' ',
		 d->letter ? d->letter : ' ', "", d->name, d->type == OPT_FLAG ? "" : " ",
		 d->type == OPT_FLAG ? "" : d->type == OPT_CHOICE ? "WORD" : d->arg ? d->arg : "N");
	printf("  %-26s %s", left, d->help);
	if (d->type == OPT_CHOICE)
		printf(" (%s)", d->arg);
	if (d->type == OPT_NUM)
		printf(" (%" PRId64 "..%" PRId64 ", default %" PRId64 ")", d->min, d->max, d->def);
	printf("\n");
}

/* Help for one command, or for all where cmd is CMD_NR. */
static void help(enum command_id cmd)
{
	size_t i;

	if (cmd == CMD_NR) {
		printf("gamer %s: schedules the threads that make the next frame first\n\n"
		       "usage: gamer [COMMAND] [OPTION]...\n\n", GAMER_VERSION);
		for (i = 0; i < CMD_NR; i++)
			printf("  %-10s %s\n", commands[i].name, commands[i].help);
		printf("\ngamer COMMAND --help shows the options of a command.\n");
		return;
	}
	printf("usage: gamer %s [OPTION]...\n%s\n\n", commands[cmd].name, commands[cmd].help);
	for (i = 0; i < OPT_NR; i++)
		if (options[i].cmds & (1u << cmd))
			help_option(&options[i]);
}

static s64 parse_number(const struct option_desc *d, const char *text)
{
	char *end;
	s64 n;

	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno || end == text || *end)
		die(EX_USAGE, "--%s: '%s' is not a number", d->name, text);
	if (n < d->min || n > d->max)
		die(EX_USAGE, "--%s: %s is out of bounds (%" PRId64 "..%" PRId64 ")", d->name, text,
		    d->min, d->max);
	return n;
}

/* Index of `text` among "a|b|c". */
static s64 parse_choice(const struct option_desc *d, const char *text)
{
	const char *at = d->arg;
	s64 i;

	for (i = 0; at; i++) {
		size_t len = strcspn(at, "|");

		if (word_is(at, len, text))
			return i;
		at = at[len] ? at + len + 1 : NULL;
	}
	die(EX_USAGE, "--%s: '%s' is none of %s", d->name, text, d->arg);
}

static void parse_value(enum opt_id id, const char *value)
{
	const struct option_desc *d = &options[id];

	if (d->type == OPT_FLAG) {
		if (value)
			die(EX_USAGE, "--%s takes no value", d->name);
		opt[id].n = 1;
	} else if (d->type == OPT_NUM) {
		opt[id].n = parse_number(d, value);
	} else if (d->type == OPT_CHOICE) {
		opt[id].n = parse_choice(d, value);
	} else {
		opt[id].s = value;
	}
}

/* The option that `arg` names for this command; *value where it is given behind '='. */
static enum opt_id parse_name(enum command_id cmd, const char *arg, const char **value)
{
	size_t len = strcspn(arg, "=");
	int i;

	*value = arg[len] ? arg + len + 1 : NULL;
	for (i = 0; i < OPT_NR; i++) {
		const struct option_desc *d = &options[i];

		if (!(d->cmds & (1u << cmd)))
			continue;
		if (!strncmp(arg, "--", 2) && word_is(arg + 2, len - 2, d->name))
			return i;
		if (arg[1] != '-' && d->letter && d->letter == arg[1] && len == 2)
			return i;
	}
	die(EX_USAGE, "unknown option '%s' for %s (see gamer %s --help)", arg, commands[cmd].name,
	    commands[cmd].name);
}

static void parse_options(enum command_id cmd, int argc, char **argv)
{
	const char *value;
	enum opt_id id;
	int i;

	for (i = 0; i < OPT_NR; i++)
		if (options[i].type == OPT_NUM || options[i].type == OPT_CHOICE)
			opt[i].n = options[i].def;
	for (i = 0; i < argc; i++) {
		if (argv[i][0] != '-' || !argv[i][1])
			die(EX_USAGE, "unexpected argument '%s' (see gamer --help)", argv[i]);
		id = parse_name(cmd, argv[i], &value);
		if (options[id].type != OPT_FLAG && !value) {
			if (++i == argc)
				die(EX_USAGE, "--%s wants a value", options[id].name);
			value = argv[i];
		}
		parse_value(id, value);
	}
}

int main(int argc, char **argv)
{
	enum command_id cmd = CMD_run;
	bool named = argc > 1 && argv[1][0] != '-';
	int i;

	if (named) {
		for (i = 0; i < CMD_NR && strcmp(argv[1], commands[i].name); i++)
			;
		if (i == CMD_NR)
			die(EX_USAGE, "unknown command '%s' (see gamer --help)", argv[1]);
		cmd = i;
	}
	parse_options(cmd, argc - 1 - named, argv + 1 + named);
	if (opt[OPT_HELP].n) {
		help(named ? cmd : CMD_NR);
		return EX_OK;
	}
	if (opt[OPT_VERSION].n) {
		printf("gamer %s (libbpf %s)\n", GAMER_VERSION, libbpf_version_string());
		return EX_OK;
	}
	libbpf_set_print(log_libbpf);
	return commands[cmd].fn();
}
