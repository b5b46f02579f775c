/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gamer.c: everything in user space.
 *
 *   1. includes
 *   2. constants and types
 *   3. tables                commands, options, hooks, stats: all that a person sees
 *   4. state                 the one running instance
 *   5. log and errors        text from outside, messages, allocation count, exit
 *   6. small I/O             files, numbers, output buffer, JSON
 *   7. topology              caches, siblings, capacity, power supply -> BPF constants
 *   8. capabilities and seccomp   what gamer may do, and what it gives up after attach
 *   9. kernel probes         what this kernel offers, hook by hook
 *  10. process database      what programs were like: files, merge, predictions
 *  11. rings                 opening them, taking records
 *  12. load and attach       the BPF object's life
 *  13. child processes       which do what may never come to an end
 *  14. wine                  uprobes on the ntdll.so of whatever Wine the game brings
 *  15. game                  which process is the game, which serve it
 *  16. fair back end         roles as nice values and slices, for whoever schedules
 *  17. output                status as text, JSON and OpenMetrics
 *  18. server                the epoll loop: signals, BPF events, power changes, the clients on the socket
 *  19. client commands       what asks a running gamer: events, traces of them, top
 *  20. profile               times off the CPU and system calls of a process tree
 *  21. commands              run, restore, status, db, check, unit, man, completions
 *  22. main                  option parser
 *
 * `gamer run` is cmd_run -> run_once -> bpf_load -> bpf_attach -> loop. Start reading there;
 * the tables of section 3 tell what exists. A command's options lie in args.COMMAND; bpf_configure() hands BPF
 * those that the scheduler needs, topo_to_bpf() the CPUs, power_apply() the power profile.
 */

/* ======== 1. includes =============================================================== */

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
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
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/types.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include "lib/libiberty/include/demangle.h"
#undef ARRAY_SIZE	/* libiberty's */
#include <zlib.h>

#include "gamer.bpf.c"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;

#include "gamer.skel.h"
#include "release.h"

/* ======== 2. constants and types ==================================================== */

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	((a) < (b) ? (a) : (b))		/* evaluates one of both twice: no call that does something */
#define MAX(a, b)	((a) > (b) ? (a) : (b))
#define CMP(x, y)	(((x) > (y)) - ((x) < (y)))	/* for qsort(), upwards */
#define NSEC_PER_USEC	1000ULL
#define NSEC_PER_MSEC	1000000ULL
#define NSEC_PER_SEC	1000000000ULL
#define MAX_CLIENTS	8
#define OUT_SIZE	(64 * 1024)	/* the longest answer to a client */
#define CLIENT_LINE	256		/* the longest request of a client */
#define CLIENT_OUT	OUT_SIZE	/* bytes waiting for a client: an answer, 70 ms at 8 kHz */
#define CLIENT_IDLE_NS	(3 * NSEC_PER_SEC)	/* who asks does so at once */
#define BATCH_NS	(20 * NSEC_PER_MSEC)	/* how long frequent events wait in their ring */
#define MODULE_NS	NSEC_PER_SEC	/* how long a module gets to start */
#define METRICS_NS	(10 * NSEC_PER_SEC)	/* how old the metrics file gets */
#define BACK_OFF_MAX_S	60		/* wait between restarts after failures: 1, 2, 4 s, at most this */
#define FAILURES_NS	(3600 * NSEC_PER_SEC)	/* failures are not in a row where gamer worked so long between them */
#define SCX_DIR		"/sys/kernel/sched_ext/"

/* Output: gathers text and writes it to fd when full or flushed; no allocation. */
struct out {
	int fd;			/* where text goes, or -1: text is kept, and cut where it does not fit */
	int failed;		/* errno of the write that failed, or E2BIG: text was cut; 0: neither */
	size_t len;		/* bytes in buf */
	char buf[OUT_SIZE];
};

/* JSON writer on an output; `comma` has a bit per nesting level. */
struct json {
	struct out *o;
	u32 depth;
	u64 comma;
};

#define KCONST_ID(name, type, required) KCONST_##name,
enum kernel_const { KERNEL_CONSTS(KCONST_ID) KCONST_NR };

enum opt_type { OPT_FLAG, OPT_NUM, OPT_STR, OPT_CHOICE };
enum backend { BACKEND_UNSAID = -1, BACKEND_AUTO, BACKEND_SCX, BACKEND_FAIR };
enum profile { PROFILE_AUTO, PROFILE_PERFORMANCE, PROFILE_BALANCED, PROFILE_POWERSAVE };

/* ======== 3. tables ================================================================= */

/* name, how many of its options (the first ones) also come as bare words, one-line help */
#define COMMANDS(X)								\
	X(run, 0, "schedule in the foreground until Ctrl-C or SIGTERM (the default)") \
	X(restore, 0, "put back what a killed gamer had given to threads")	\
	X(status, 0, "one snapshot of a running gamer")				\
	X(top, 0, "live view of a running gamer")				\
	X(events, 0, "a running gamer's event stream as JSON lines")		\
	X(db, 2, "the process database: list, export, import, check, clear")	\
	X(profile, 0, "where time goes: of a process tree (-p PID, or -- COMMAND), a thread (-t), all (-a)") \
	X(check, 0, "what this kernel offers, hook by hook")			\
	X(unit, 0, "print a systemd unit")					\
	X(man, 0, "print the manual page, for man -l")				\
	X(completions, 1, "print completions for bash, zsh or fish")

enum command_id {
#define CMD_ID(name, words, help) CMD_##name,
	COMMANDS(CMD_ID)
	CMD_all		/* of an option: every command takes it */
};

#define CMD_FUNCTION(name, words, help) static int cmd_##name(void);
COMMANDS(CMD_FUNCTION)

static const struct command {
	const char *name;
	int (*fn)(void);	/* returns the exit code */
	u32 words;		/* options that also come as bare words */
	const char *help;
} commands[] = {
#define CMD_ROW(name, words, help) { #name, cmd_##name, words, help },
	COMMANDS(CMD_ROW)
};

/*
 * The options of each command: command, field in its arguments, long name, letter, type, default,
 * min, max, argument or choices, help.
 */
#define OPTIONS_all(X)								\
	X(all, help, "help", 'h', FLAG, 0, 0, 0, NULL, "show help")		\
	X(all, version, "version", 'V', FLAG, 0, 0, 0, NULL, "show version")

#define OPTION_JSON(X, cmd) X(cmd, json, "json", 'j', FLAG, 0, 0, 0, NULL, "print JSON")
#define OPTION_VERBOSE(X, cmd)							\
	X(cmd, verbose, "verbose", 'v', FLAG, 0, 0, 0, NULL, "show what libbpf says")
#define OPTION_HOOKS(X, cmd)							\
	X(cmd, hooks, "hooks", 0, STR, 0, 1, 0, "[-+]NAME,...", "switch hooks off or on")
#define OPTION_DB(X, cmd)							\
	X(cmd, db, "db", 0, STR, 0, 0, 0, "FILE", "process database; empty: in memory only")
#define OPTION_SECONDS(X, cmd)							\
	X(cmd, seconds, "seconds", 's', NUM, 0, 0, 86400, NULL,			\
	  "how long; 0: until Ctrl-C, or the end of what is followed")

#define OPTIONS_run(X)								\
	OPTION_VERBOSE(X, run)							\
	X(run, profile, "profile", 'p', CHOICE, 0, 0, 0,			\
	  "auto|performance|balanced|powersave", "power profile; auto follows AC and platform_profile, " \
	  "powersave leaves cores asleep") \
	OPTION_HOOKS(X, run)							\
	X(run, observe, "observe", 'o', FLAG, 0, 0, 0, NULL, "find roles and schedule nothing; needs no sched_ext") \
	X(run, backend, "backend", 0, CHOICE, BACKEND_UNSAID, 0, 0, "auto|scx|fair",	\
	  "schedule (scx), or advise by nice value and slice whoever schedules (fair); auto: scx where it can " \
	  "be had and is free, else fair; unsaid: auto, but exit 75 beside another scheduler") \
	X(run, realtime, "realtime", 0, FLAG, 0, 0, 0, NULL,			\
	  "fair: the game's input, audio and submit threads whose bursts are short run under SCHED_FIFO") \
	X(run, game, "game", 0, NUM, 0, 0, 4194304, NULL, "treat this process as the game; 0: find it") \
	X(run, game_weight, "game-weight", 0, NUM, 8, 1, 64, NULL,		\
	  "how many times the game outweighs other work, as long as that has a tenth of busy CPUs") \
	X(run, fast_cpus, "fast-cpus", 0, STR, 0, 1, 0, "LIST",			\
	  "CPUs that critical threads prefer; default: by capacity and preferred core") \
	OPTION_DB(X, run)							\
	X(run, restarts, "restarts", 0, NUM, 3, 0, 1000, NULL,			\
	  "how often gamer starts again after the kernel ended it for an error or a stall") \
	X(run, no_seccomp, "no-seccomp", 0, FLAG, 0, 0, 0, NULL, "leave all system calls open to gamer itself") \
	X(run, test, "test", 0, STR, 0, 1, 0, "WHAT,...", NULL)			\
	X(run, metrics_file, "metrics-file", 0, STR, 0, 1, 0, "FILE",		\
	  "write metrics to a file every 10 s, for a textfile collector; the mode of its folder must let " \
	  "gamer's user write")							\
	X(run, socket_group, "socket-group", 0, STR, 0, 1, 0, "GROUP",		\
	  "group that may ask gamer, as root may; default: none")

#define OPTIONS_restore(X)

#define OPTIONS_status(X)							\
	OPTION_JSON(X, status)							\
	X(status, metrics, "metrics", 'm', FLAG, 0, 0, 0, NULL, "print OpenMetrics")

#define OPTIONS_top(X)								\
	OPTION_JSON(X, top)							\
	X(top, once, "once", 0, FLAG, 0, 0, 0, NULL, "print one snapshot and end")

#define OPTIONS_events(X)							\
	X(events, type, "type", 't', STR, 0, 1, 0, "TYPE,...",			\
	  "types of events; default: all, but run (who ran on each CPU, and when) with --trace alone") \
	X(events, tid, "tid", 0, NUM, 0, 0, 4194304, NULL, "events of this thread; 0: of all") \
	X(events, pid, "pid", 0, NUM, 0, 0, 4194304, NULL, "events of this process; 0: of all") \
	OPTION_SECONDS(X, events)						\
	X(events, trace, "trace", 0, STR, 0, 1, 0, "FILE",			\
	  "write a trace that ui.perfetto.dev and chrome://tracing open, print nothing")

#define OPTIONS_db(X)								\
	X(db, action, "action", 0, CHOICE, 0, 0, 0, "list|export|import|check|clear", \
	  "what to do, also as the first word")					\
	X(db, file, "file", 0, STR, 0, 1, 0, "FILE",				\
	  "file to export to or import from, else standard output or input; database to list, check or " \
	  "clear; also as the second word")					\
	OPTION_JSON(X, db)							\
	OPTION_DB(X, db)							\
	X(db, v2, "v2", 0, FLAG, 0, 0, 0, NULL,					\
	  "export in the older format, which has no paths and roles and only what is sure")

#define OPTIONS_profile(X)							\
	OPTION_JSON(X, profile)							\
	OPTION_VERBOSE(X, profile)						\
	OPTION_SECONDS(X, profile)						\
	X(profile, pid, "pid", 'p', NUM, 0, 0, 4194304, NULL,			\
	  "process to follow, with all that it started and starts")		\
	X(profile, tid, "tid", 't', NUM, 0, 0, 4194304, NULL, "thread to follow, alone") \
	X(profile, all, "all", 'a', FLAG, 0, 0, 0, NULL, "follow all processes; ends by -s or Ctrl-C") \
	X(profile, only, "only", 0, CHOICE, 0, 0, 0, "all|offcpu|syscalls",	\
	  "what to record; the rest costs next to nothing then")		\
	X(profile, state, "state", 0, CHOICE, 0, 0, 0,				\
	  "all|sleep|disk|uninterruptible|preempted|runqueue|stopped|traced|other", \
	  "count only times in this state")					\
	X(profile, min_us, "min-us", 'm', NUM, 0, 0, 86400000000, NULL,		\
	  "leave out times off the CPU that are shorter, us")			\
	X(profile, max_us, "max-us", 'M', NUM, 0, 0, 86400000000, NULL,		\
	  "leave out those that are longer, us; 0: none")			\
	X(profile, user_stacks, "user-stacks", 0, FLAG, 0, 0, 0, NULL, "no stacks of the kernel: costs less") \
	X(profile, folded, "folded", 0, FLAG, 0, 0, 0, NULL,			\
	  "print a line per stack and its time in us, for flame graphs")	\
	X(profile, output, "output", 'o', STR, 0, 1, 0, "FILE", "write the report there")

#define OPTIONS_check(X)							\
	OPTION_JSON(X, check)							\
	OPTION_VERBOSE(X, check)						\
	OPTION_HOOKS(X, check)

#define OPTIONS_unit(X)
#define OPTIONS_man(X)

#define OPTIONS_completions(X)							\
	X(completions, shell, "shell", 0, CHOICE, 0, 0, 0, "bash|zsh|fish",	\
	  "shell to print completions for, also as the first word")

typedef bool arg_FLAG;
typedef s64 arg_NUM;
typedef s32 arg_CHOICE;		/* index of the word, or the default */
typedef const char *arg_STR;	/* points into argv; NULL: not given */

/* The arguments of each command, args.COMMAND.FIELD. The parser fills them, and nobody changes them. */
static struct {
#define FIELD(cmd, field, name, letter, type, ...) arg_##type field;
#define CMD_ARGS(cmd, ...) struct { OPTIONS_##cmd(FIELD) } cmd;
	CMD_ARGS(all)
	COMMANDS(CMD_ARGS)
} args;

static const struct option_desc {
	const char *name;	/* without the dashes */
	char letter;		/* 0: none */
	u8 type;		/* enum opt_type */
	u8 cmd;			/* enum command_id that takes it */
	s64 def, min, max;	/* of numbers; of text: its length is at least min */
	const char *arg;	/* metavariable, or choices separated by | */
	const char *help;	/* NULL: for tests, and shown nowhere */
	union {			/* where its value goes, by type */
		arg_FLAG *FLAG;
		arg_NUM *NUM;
		arg_CHOICE *CHOICE;
		arg_STR *STR;
	} to;
} options[] = {
#define ROW(cmd, field, name, letter, type, def, min, max, arg, help) \
	{ name, letter, OPT_##type, CMD_##cmd, def, min, max, arg, help, { .type = &args.cmd.field } },
#define CMD_OPTIONS(cmd, ...) OPTIONS_##cmd(ROW)
	CMD_OPTIONS(all)
	COMMANDS(CMD_OPTIONS)
};

/* What a hook needs of the kernel: something in its BTF, or one of the hook's programs (PROGS). */
enum need { NEED_NAME, NEED_MEMBER, NEED_CONST, NEED_IRQ_BITS, NEED_PROG };

/* id, name, need, what, member or value, optional, fallback, description */
#define HOOKS(X)								\
	X(SCHED, "sched", NAME, "sched_ext_ops", NULL, 0,			\
	  "run --observe: the kernel's own scheduler stays", "scheduling by role (sched_ext)") \
	X(RUNTIME, "runtime", PROG, NULL, NULL, 1, "exact events alone", "run and sleep patterns") \
	X(GPU, "gpu", PROG, NULL, NULL, 1, "patterns, names", "who submits to the GPU, by driver and request") \
	X(NVIDIA, "nvidia", PROG, NULL, NULL, 1, "patterns, names", "who uses NVIDIA's own driver; a hint, not proof") \
	X(FRAME, "frame", PROG, NULL, NULL, 1, "frames by the cadence of submits", "page flips and their completion") \
	X(WINE, "wine", PROG, NULL, NULL, 1, "patterns, names", "thread priorities that Windows programs set") \
	X(INPUT, "input", PROG, NULL, NULL, 1, "none", "events of mice, keyboards, gamepads, touch") \
	X(READERS, "readers", PROG, NULL, NULL, 1, "patterns, names", "who reads input devices") \
	X(AUDIO, "audio", PROG, NULL, NULL, 1, "patterns, names", "who moves sound to ALSA") \
	X(NETWORK, "network", PROG, NULL, NULL, 1, "patterns, names", "who in the game sends and receives UDP") \
	X(GAME, "game", PROG, NULL, NULL, 1, "/proc every 2 s", "programs that start") \
	X(NAME, "name", PROG, NULL, NULL, 1,					\
	  "names at the time a game is found", "threads and processes that get a name") \
	X(CGROUP, "cgroup", MEMBER, "sched_ext_ops", "cgroup_set_weight", 1,	\
	  "nice values alone", "CPU weights of control groups; cpu.max is not kept")			\
	X(CPUPERF, "cpuperf", NAME, "scx_bpf_cpuperf_set", NULL, 1,		\
	  "the governor's own choice", "CPU frequency targets by role")		\
	X(KICK, "kick", NAME, "scx_bpf_kick_cpu", NULL, 1,			\
	  "insert into that CPU's own queue", "tell a CPU to take queued work") \
	X(PEEK, "peek", NAME, "bpf_iter_scx_dsq_new", NULL, 1,			\
	  "queues served in turn", "weights where two tasks share a CPU")	\
	X(IRQ, "irq", IRQ_BITS, "__preempt_count", NULL, 1,			\
	  "patterns alone", "tell what devices and timers wake from the first wakeup on") \
	X(IMMED, "immed", CONST, "scx_enq_flags", "SCX_ENQ_IMMED", 1,		\
	  "cpu_release callback", "leave a CPU that a real-time task takes")

#define HOOK_ID(id, ...) HOOK_##id,
enum hook_id { HOOKS(HOOK_ID) HOOK_NR };

static const struct hook {
	const char *name;
	u8 need;		/* enum need */
	const char *what;	/* type or function, or NULL */
	const char *part;	/* member or value, or NULL */
	u8 optional;		/* 0: gamer does not work without it, and nobody can switch it off */
	const char *fallback;	/* what is used instead */
	const char *help;
} hooks[HOOK_NR] = {
#define HOOK_ROW(id, name, need, what, part, optional, fallback, help) \
	{ name, NEED_##need, what, part, optional, fallback, help },
	HOOKS(HOOK_ROW)
};

/* How a program is attached. */
enum prog_kind { PROG_TP, PROG_FENTRY, PROG_FEXIT, PROG_KRETPROBE, PROG_UPROBE };

/*
 * The optional BPF programs: name, hook, kind, target, the module that has the target where the
 * kernel itself does not (NULL: no module). gamer tries them in this order.
 */
#define PROGS(X)								\
	X(runtime_switch, RUNTIME, TP, "sched_switch", NULL)			\
	X(runtime_waking, RUNTIME, TP, "sched_waking", NULL)			\
	X(gpu_ioctl, GPU, FEXIT, "drm_ioctl", "drm")				\
	X(frame_flipped, FRAME, FENTRY, "drm_send_event_timestamp_locked", "drm") \
	X(gpu_doorbell, NVIDIA, KRETPROBE, "nvidia_unlocked_ioctl nvidia_ioctl nv_drm_ioctl", "nvidia") \
	X(wine_set_thread, WINE, UPROBE, "NtSetInformationThread", NULL)	\
	X(wine_set_process, WINE, UPROBE, "NtSetInformationProcess", NULL)	\
	X(input_event_seen, INPUT, FENTRY, "input_event", "input_core")		\
	X(input_gone, INPUT, FENTRY, "input_unregister_device", "input_core")	\
	X(readers_evdev, READERS, FEXIT, "evdev_read", "evdev")			\
	X(readers_hidraw, READERS, FEXIT, "hidraw_read", "hid")			\
	X(audio_ioctl, AUDIO, FEXIT, "snd_pcm_ioctl", "snd_pcm")		\
	X(network_sent, NETWORK, TP, "sock_send_length", NULL)			\
	X(network_received, NETWORK, TP, "sock_recv_length", NULL)		\
	X(game_exec, GAME, TP, "sched_process_exec", NULL)			\
	X(name_changed, NAME, TP, "task_rename", NULL)

#define PROG_ID(name, ...) PROG_##name,
enum prog_id { PROGS(PROG_ID) PROG_NR };

static const struct prog {
	const char *name;	/* of the BPF program */
	u8 hook;		/* enum hook_id that it serves */
	u8 kind;		/* enum prog_kind */
	const char *target;	/* function or tracepoint; a kretprobe takes the first that exists */
	const char *module;	/* that has the target, or NULL: the kernel itself has it */
} progs[PROG_NR] = {
#define PROG_ROW(name, hook, kind, target, module) { #name, HOOK_##hook, PROG_##kind, target, module },
	PROGS(PROG_ROW)
};

#define NAME_OF(id, name, ...) #name,
static const char *const source_names[] = { SOURCES(NAME_OF) };
static const char *const class_names[] = { CLASSES(NAME_OF) };
static const char *const role_names[] = { ROLES(NAME_OF) };
static const char *const reason_names[] = { REASONS(NAME_OF) };
static const char *const type_names[] = { EVENTS(NAME_OF) };
static const char *const input_names[] = { INPUT_KINDS(NAME_OF) };
static const char *const tier_names[] = { TIERS(NAME_OF) };
static const char *const prof_state_names[] = { PROF_STATES(NAME_OF) };

enum unit { UNIT_NONE, UNIT_S, UNIT_US, UNIT_NS, UNIT_KB };

static const struct unit_desc {
	const char *suffix;	/* of names in text and JSON */
	const char *base;	/* of names in OpenMetrics */
	double scale;		/* value * scale is in that base unit */
} units[] = {
	[UNIT_NONE] = { "", "", 1 }, [UNIT_S] = { "_s", "_seconds", 1 }, [UNIT_US] = { "_us", "_seconds", 1e-6 },
	[UNIT_NS] = { "_ns", "_seconds", 1e-9 }, [UNIT_KB] = { "_kb", "_bytes", 1024 },
};

/* What BPF counts by role, source, reason or type: field of cpu_state, name, unit, by what, help. */
#define BPF_FAMILIES(X)								\
	X(role_run_ns, run, NS, role, "CPU time by role")			\
	X(misses, deadline_misses, NONE, role, "critical work that was not done when due again") \
	X(by_source, classifications, NONE, source, "changes of role by what told of it") \
	X(moves, migrations, NONE, reason, "tasks that ran on another CPU than before") \
	X(move_wait_ns, migration_wait, NS, reason, "what they had waited for it") \
	X(sent, events, NONE, type, "events that BPF sent")			\
	X(lost, events_lost, NONE, type, "events that found their ring full")

#define UP_HELP		"1 while gamer works, 0 when it has ended"

/* Kept by user space: id, name, unit, type, value (NAN: nothing to say yet), help. */
#define USER_STATS(X)								\
	X(UP, up, NONE, GAUGE, 1, UP_HELP)						\
	X(UPTIME, uptime, S, GAUGE, (now_ns() - st.attach_at_ns) / NSEC_PER_SEC, "time since attach") \
	X(LOAD, load, US, GAUGE, st.load_us, "time to open and verify the BPF programs") \
	X(ATTACH, attach, US, GAUGE, st.attach_us, "time to switch all tasks to gamer") \
	X(RESTARTS, restarts, NONE, COUNTER, st.restarts, "restarts after CPU hotplug or failures") \
	X(ALLOCS, allocations_after_attach, NONE, COUNTER, st.allocs, "memory allocations since attach") \
	X(RSS, rss, KB, GAUGE, rss_kb(), "resident memory of gamer") \
	X(CPU, cpu, US, COUNTER, clock_ns(CLOCK_PROCESS_CPUTIME_ID) / NSEC_PER_USEC, \
	  "CPU time of gamer itself, outside BPF") \
	X(REJECTED, nr_rejected, NONE, COUNTER, read_num(0, SCX_DIR "nr_rejected"), "tasks that sched_ext refused") \
	X(FREQUENCY, frequency, NONE, GAUGE, power_asked(), \
	  "mean frequency that CPUs are asked for, percent of the highest") \
	X(FAIR_THREADS, fair_threads, NONE, GAUGE, st.fair ? fair_list.nr : NAN, \
	  "threads that have the nice value and slice of their role") \
	X(FAIR_CALLS, fair_calls, NONE, COUNTER, st.fair ? fair.calls : NAN, "system calls that changed a thread") \
	X(FAIR_LOOKS, fair_looks, NONE, COUNTER, st.fair ? fair.looks : NAN, \
	  "looks at all threads, after roles had changed") \
	X(FAIR_THEIRS, fair_theirs, NONE, COUNTER, st.fair ? fair.theirs : NAN, \
	  "threads that somebody else changed and that were left alone") \
	X(FAIR_CPU, fair_cpu, US, COUNTER, st.fair ? fair.cpu_ns / NSEC_PER_USEC : NAN, "CPU time of gamer for that") \
	X(CLIENTS, clients, NONE, GAUGE, clients_of(ALL_USERS), "clients that are connected") \
	X(HUNG, processes_locked, NONE, COUNTER, reader.hung, "processes that could not be read in time") \
	X(FULL, places_full, NONE, COUNTER, game.full, "games, servers, files of Wine without a place") \
	X(CLIENTS_DROPPED, clients_dropped, NONE, COUNTER, st.clients_dropped, "clients too slow or too many") \
	X(DB_PROGRAMS, db_programs, NONE, GAUGE, db.known.count, "programs in the process database") \
	X(DB_MERGE, db_merge, US, GAUGE, db.merge_us, "the longest merge of observations into it") \
	X(DETECTED, game_detected, US, GAUGE, game.now && game.detected_us ? game.detected_us : NAN, \
	  "from the first sign of the game until it was known") \
	X(FRAMES, frames_presented, NONE, COUNTER, st.skel->bss->frame.presented, "frames that reached the display") \
	X(DROPPED, frames_dropped, NONE, COUNTER, st.skel->bss->frame.dropped, \
	  "the game's frames that were never shown") \
	X(MISSED, vblanks_missed, NONE, COUNTER, st.skel->bss->frame.missed, \
	  "refreshes of the display without a new frame") \
	X(SUBMIT_HZ, gpu_submit_hz, NONE, GAUGE, game.now ? hz_of(st.skel->bss->frame.submit_gap_ns) : NAN, \
	  "GPU submits a second of the game's primary thread") \
	X(FPS, fps, NONE, GAUGE, frames.fps, "frames in the last second that had some") \
	X(LOW1, fps_1_percent_low, NONE, GAUGE, frames.low1, "of 100 frames 99 are at least as fast") \
	X(LOW01, fps_01_percent_low, NONE, GAUGE, frames.low01, "of 1000 frames 999 are at least as fast")

#define USTAT_ID(id, ...) USTAT_##id,
enum user_stat { USER_STATS(USTAT_ID) USTAT_NR };

enum stat_type { STAT_COUNTER, STAT_GAUGE, STAT_HIST };
static const char *const stat_types[] = { "counter", "gauge", "histogram" };

static const struct stat_desc {
	const char *name;	/* without its unit */
	u8 unit;		/* enum unit */
	u8 type;		/* enum stat_type */
	u8 user;		/* 1: kept by user space, at: enum user_stat */
	u8 shift;		/* of a histogram: ns >> shift is what its slots count */
	u32 at;			/* offset of the first value in struct cpu_state, where BPF keeps it */
	u32 n;			/* number of values */
	const char *label;	/* by what there are several values; NULL: there is one */
	const char *const *members;	/* names of the values */
	const char *help;
} stats[] = {
#define AT(field) offsetof(struct cpu_state, field)
#define EACH(label) ARRAY_SIZE(label##_names), #label, label##_names
#define BPF_STAT_ROW(id, name, help) \
	{ #name, UNIT_NONE, STAT_COUNTER, 0, 0, AT(stat[BPF_STAT_##id]), 1, NULL, NULL, help },
	BPF_STATS(BPF_STAT_ROW)
#define FAMILY_ROW(field, name, unit, label, help) \
	{ #name, UNIT_##unit, STAT_COUNTER, 0, 0, AT(field), EACH(label), help },
	BPF_FAMILIES(FAMILY_ROW)
#define USER_STAT_ROW(id, name, unit, type, value, help) \
	{ #name, UNIT_##unit, STAT_##type, 1, 0, USTAT_##id, 1, NULL, NULL, help },
	USER_STATS(USER_STAT_ROW)
	{ "wakeup", UNIT_US, STAT_HIST, 0, 0, AT(wake_hist), EACH(role),
	  "from a wakeup until the task ran" },
#define HIST_ROW(id, name, help) \
	{ #name, UNIT_US, STAT_HIST, 0, HIST_SHIFT, AT(hist[HIST_##id]), 1, NULL, NULL, help },
	HISTS(HIST_ROW)
	{ "events_read", UNIT_NONE, STAT_COUNTER, 1, 0, USTAT_NR, EACH(type), "events that gamer took" },
};

/* ======== 4. state ================================================================== */

/* What a client's request asks for. */
struct request {
	enum request_what {
		ASK_NOTHING, ASK_EVENTS, ASK_STATUS, ASK_TEXT, ASK_METRICS, ASK_TOP,
	} what;
	u32 types;			/* bits by enum event_type; 0: the request names an unknown one */
	u32 tid, pid;			/* events of this thread and this process alone; 0: of all */
	bool records;			/* events come as union record, not as JSON */
};

/* One connected client; a slot is free where fd < 0. */
struct client {
	int fd;
	uid_t uid;			/* who connected */
	u32 waits;			/* events that epoll waits for; client_flush() */
	u64 asked_ns;			/* when it connected, or was last answered; CLOCK_MONOTONIC */
	struct request events;		/* what gamer sends it; types 0: no events */
	u32 gathered;			/* bytes in its row of client_out that are not sent yet */
	u32 len;			/* bytes in line that are not answered yet */
	char line[CLIENT_LINE];
};

/* A ring that BPF fills, mapped while somebody reads it. */
struct ring {
	u64 *taken;			/* how far gamer has read; the kernel looks there. NULL: not mapped */
	const u64 *written;		/* how far BPF has written */
	const char *data;		/* mapped twice in a row, so that no record is torn */
	u32 size;			/* bytes, a power of two */
	u64 lost;			/* lost events that clients were told of */
};

static struct state {
	struct gamer_bpf *skel;		/* NULL while detached */
	struct bpf_link *link;		/* the attached scheduler */
	struct ring rings[EVENT_NR];
	int epoll_fd, signal_fd, listen_fd, uevent_fd, lock_fd;
	int run_fd;			/* holds run_ended to its tracepoint; <= 0: no client wants that; run_watch() */
	bool batch_armed;
	struct client clients[MAX_CLIENTS];
	bool attached;			/* allocations are counted while set */
	bool stop;			/* a signal asked to stop */
	bool verbose;			/* -v: libbpf's messages are shown; cmd_run(), cmd_check(), cmd_profile() */
	bool accept_failed;		/* somebody waits for a place; client_accept() */
	char fair_why[160];		/* why it advises; backend_choose() */
	bool observing;			/* schedules nothing: --observe, or fair; backend_choose() */
	bool fair;			/* advises, and schedules nothing; backend_choose() */
	bool fair_realtime;		/* --realtime, and the kernel stops who runs away; backend_choose() */
	bool roles_changed;		/* since fair_look(); ring_take(), slot_class() */
	bool modules_came;		/* hooks want their functions, so gamer loads again; on_module() */
	bool exited;			/* the kernel has ended the scheduler; `end` says why */
	struct scx_end end;		/* why it did so last; scx_look() */
	u64 scx_looked_ns;		/* when the kernel was asked last; scx_look() */
	u32 rings_due;			/* bits by enum event_type: rings to be read in this turn; on_ring() */
	u64 allocs;			/* since attach */
	u64 attach_at_ns;		/* CLOCK_MONOTONIC */
	u64 load_us, attach_us;
	u64 restarts, clients_dropped;
	u64 taken[EVENT_NR];		/* events read; ring_take() */
	u64 metrics_at_ns;		/* when the metrics file was written; CLOCK_MONOTONIC */
	enum profile profile;		/* in force, after auto was resolved */
	u32 tests;			/* --test: bits by enum part and enum failure */
	u64 kernel_const[KCONST_NR];	/* values in the running kernel's BTF */
	u32 irq_mask;			/* interrupt bits of the preemption counter */
	s32 irq_from_rq;		/* how far from the CPU's runqueue to look for it; 0: its address is known */
	bool inline_funcs;		/* the verifier does not know the marks of arguments; kernel_probe() */
	bool hook_off[HOOK_NR];		/* by --hooks */
	const char *hook_why[HOOK_NR];	/* why not attached, NULL: attached */
	const char *prog_why[PROG_NR];	/* why not loaded or attached, NULL: it is */
	struct bpf_link *prog_links[PROG_NR];	/* NULL: not attached, or a uprobe; wine_work() */
	struct bpf_link *threads_link;	/* the thread iterator */
	const struct prog *refused;	/* that the verifier refused last, or NULL; log_libbpf() */
	char **argv;			/* the words behind "--", NULL: none; parse_options() */
	pid_t pid;			/* of gamer itself, also in its children; main() */
	void (*died)(int code, const char *why);	/* run_died(); NULL: not `run` */
} st;		/* no initial values, which the file would hold; main() sets what is not 0 */

/* What waits for each client. */
static char client_out[MAX_CLIENTS][CLIENT_OUT];

/* ======== 5. log and errors ========================================================= */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);

static u64 clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static u64 now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* Counts an allocation. False: the build with sanitizers lets this one fail. */
static bool alloc_counted(void)
{
	st.allocs += st.attached;
#ifdef GAMER_FAIL_ALLOC
	static long left = -1;
	const char *nth = left < 0 ? getenv("GAMER_FAIL_ALLOC") : NULL;

	left = left < 0 ? atol(nth ? nth : "0") : left;
	if (left && !--left) {
		errno = ENOMEM;
		return false;
	}
#endif
	return true;
}

/* The linker puts these in place of malloc and its family (-Wl,--wrap), so that the count is complete. */
void *__wrap_malloc(size_t size)
{
	return alloc_counted() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return alloc_counted() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
	return alloc_counted() ? __real_realloc(p, size) : NULL;
}

/*
 * Writes as much as there is room for, and returns the number of bytes: gamer does not wait for a
 * reader that has stopped. Where poll() sees room, a pipe takes PIPE_BUF bytes.
 */
static size_t write_now(int fd, const char *s, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	size_t done = 0;
	ssize_t n;

	for (; done < len && poll(&p, 1, 0) > 0; done += n) {
		n = write(fd, s + done, MIN(len - done, (size_t)PIPE_BUF));
		if (n <= 0)
			break;
	}
	return done;
}

/*
 * Names, paths and messages come from other processes, from files and from the kernel. They must not
 * steer a terminal, forge a line or break JSON. So all text is printed by text_vf(), and all JSON by
 * json_text(); their callers clean nothing.
 */

/* Reads the character at `s`, of at most `max` bytes, into *c; U+FFFD: broken. Returns its bytes. */
static size_t utf8_next(const char *s, size_t max, u32 *c)
{
	static const u32 least[] = { 0, 0, 0x80, 0x800, 0x10000 };	/* character that needs so many bytes */
	const u8 *b = (const u8 *)s;
	size_t len = *b < 0x80 ? 1 : *b < 0xc0 ? 0 : *b < 0xe0 ? 2 : *b < 0xf0 ? 3 : *b < 0xf8 ? 4 : 0;
	size_t i;

	*c = len == 1 ? *b : *b & (0x7fU >> len);
	for (i = 1; i < MIN(len, max) && (b[i] & 0xc0) == 0x80; i++)
		*c = *c << 6 | (b[i] & 0x3f);
	if (i == len && *c >= least[len] && *c <= 0x10ffff && *c >> 11 != 0x1b)	/* a surrogate */
		return len;
	*c = 0xfffd;
	return 1;
}

/* Does this character end a line, move a cursor, turn the direction of text, or stand for broken bytes? */
static bool text_steers(u32 c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069) || c == 0xfffd;
}

/* The columns that a character takes on a terminal; 1 where the C library does not know it. */
static u32 text_columns(u32 c)
{
	int n = wcwidth(c);

	return n < 0 ? 1 : n;
}

static bool text_ascii;		/* the terminal shows nothing else; cmd_top() */

/*
 * Copies the first `most` bytes of a string (< 0: all), with '?' for what a terminal must not see,
 * and pads it to `width` columns (< 0: on the right). Returns the bytes in buf, or room + 1 where the
 * text does not fit.
 */
static size_t text_clean(char *buf, size_t room, const char *s, int width, int most)
{
	size_t at = 0, left = most < 0 ? SIZE_MAX : (size_t)most, len, pad;
	int columns = 0;
	bool plain;
	u32 c;

	for (s = s ? : "?"; left && *s; s += len, left -= len) {
		len = utf8_next(s, left, &c);
		plain = !text_steers(c) && (c < 0x80 || !text_ascii);
		if (at + len > room)
			break;
		memcpy(buf + at, plain ? s : "?", plain ? len : 1);
		at += plain ? len : 1;
		columns += plain ? text_columns(c) : 1;
	}
	pad = MAX(abs(width) - columns, 0);
	if ((left && *s) || pad > room - at) {
		memset(buf + at, ' ', room - at);
		return room + 1;
	}
	if (width > 0)
		memmove(buf + pad, buf, at);
	memset(buf + (width > 0 ? 0 : at), ' ', pad);
	return at + pad;
}

/*
 * vsnprintf() for people: text of %s and %c is cleaned, and its width counts columns and not bytes.
 * Returns the length, or `size` where the text had no room and was cut.
 */
static size_t text_vf(char *buf, size_t size, const char *fmt, va_list ap)
{
	size_t room = size - 1, at = 0, len, i;
	char spec[16] = "%", one[2] = "";
	int width, most, longs;
	const char *s;
	bool real;
	s64 n;

	for (; *fmt && at <= room; fmt++, at += len) {
		len = 1;
		if (*fmt != '%' || *++fmt == '%') {
			buf[at] = *fmt;
			continue;
		}
		/* Flags stay. Width, precision and value become arguments of one type. */
		for (i = 1; strchr("-+ #0", *fmt); fmt++)
			spec[i++] = *fmt;
		width = *fmt == '*' ? fmt++, va_arg(ap, int) : strtol(fmt, (char **)&fmt, 10);
		most = -1;
		if (*fmt == '.' && *++fmt)
			most = *fmt == '*' ? fmt++, va_arg(ap, int) : strtol(fmt, (char **)&fmt, 10);
		for (longs = 0; strchr("lz", *fmt); fmt++)
			longs++;
		real = strchr("efg", *fmt);
		snprintf(spec + i, sizeof(spec) - i, "*.*%s%c", real ? "" : "ll", *fmt);
		if (strchr("sc", *fmt)) {
			one[0] = *fmt == 'c' ? va_arg(ap, int) : 0;
			s = *fmt == 'c' ? one : va_arg(ap, const char *);
			width = spec[1] == '-' ? -abs(width) : width;
			len = text_clean(buf + at, room - at, s, width, most);
		} else if (real) {
			len = snprintf(buf + at, size - at, spec, width, most, va_arg(ap, double));
		} else {
			n = longs ? va_arg(ap, s64) : *fmt == 'd' ? va_arg(ap, int) : (s64)va_arg(ap, u32);
			len = snprintf(buf + at, size - at, spec, width, most, n);
		}
	}
	buf[MIN(at, room)] = 0;
	return MIN(at, size);
}

/* The same for callers that may cut: returns the length of what is in buf. */
__attribute__((format(printf, 3, 4)))
static size_t text_f(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = text_vf(buf, size, fmt, ap);
	va_end(ap);
	return MIN(n, size - 1);
}

/*
 * Writes a message to stderr. `run` does not wait for the reader of its log, for the scheduler's next
 * start would wait too: messages without a reader are counted, and a later line says how many they
 * were. Returns the message, which is valid until the next one.
 */
static const char *vlog(const char *fmt, va_list ap)
{
	static char line[1024] = "gamer: ";
	static u32 missed;
	char text[64];
	size_t n = strlen("gamer: ");

	n += text_vf(line + n, sizeof(line) - n, fmt, ap);
	n = MIN(n, sizeof(line) - 1);
	line[n++] = '\n';
	if (st.died) {
		snprintf(text, sizeof(text), "gamer: %u messages before this one had no reader\n", missed);
		if (missed && write_now(STDERR_FILENO, text, strlen(text)))
			missed = 0;
		missed += !write_now(STDERR_FILENO, line, n);
	} else if (write(STDERR_FILENO, line, n) < 0) {
		missed = 0;	/* nobody is left to be told */
	}
	line[n - 1] = 0;
	return line + strlen("gamer: ");
}

/* Prints one line to stderr. */
__attribute__((format(printf, 1, 2)))
static void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(fmt, ap);
	va_end(ap);
}

/* Prints one line to stderr and exits with `code` (sysexits.h). */
__attribute__((noreturn, format(printf, 2, 3)))
static void die(int code, const char *fmt, ...)
{
	const char *why;
	va_list ap;

	va_start(ap, fmt);
	why = vlog(fmt, ap);
	va_end(ap);
	if (st.died)
		st.died(code, why);
	exit(code);
}

/*
 * What takes longer than two seconds shows its progress, where stderr is a terminal: a line that the next one
 * replaces, twice a second. NULL: it is over.
 */
__attribute__((format(printf, 2, 3)))
static void progress(u64 since_ns, const char *fmt, ...)
{
	static u64 last_ns;
	u64 now = now_ns();
	char text[128];
	va_list ap;
	int n;

	if (fmt ? now - since_ns < 2 * NSEC_PER_SEC || now - last_ns < NSEC_PER_SEC / 2 || !isatty(STDERR_FILENO) :
		  !last_ns)
		return;
	last_ns = fmt ? now : 0;
	va_start(ap, fmt);
	n = fmt ? vsnprintf(text, sizeof(text), fmt, ap) : 0;
	va_end(ap);
	dprintf(STDERR_FILENO, "\r%.*s\033[K", n, text);
}

/* Shows libbpf's warnings where they are asked for; gamer has its own message for each failed step. */
static int log_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	static char text[OUT_SIZE];
	const char *name, *line, *cost;
	va_list copy;
	int i;

	va_copy(copy, ap);
	if (level == LIBBPF_WARN && strstr(fmt, "BPF program load failed")) {
		/*
		 * Only here does libbpf tell which program a kernel refused. An optional one is then
		 * left out, see bpf_load().
		 */
		name = va_arg(copy, const char *);
		for (i = 0; i < PROG_NR; i++)
			if (!strcmp(progs[i].name, name))
				st.refused = &progs[i];
	} else if (st.verbose && level == LIBBPF_DEBUG && strstr(fmt, "BEGIN PROG LOAD LOG")) {
		name = va_arg(copy, const char *);
		/* the verifier's last line; 7.2 has a line "insns processed" before it */
		cost = strstr(va_arg(copy, const char *), "\nprocessed ");
		if (cost)
			note("verified %s: %.*s", name, (int)strcspn(cost + 1, "\n"), cost + 1);
	}
	va_end(copy);
	if (!st.verbose || level == LIBBPF_DEBUG)
		return 0;
	va_copy(copy, ap);
	i = vsnprintf(text, sizeof(text), fmt, copy);
	va_end(copy);
	/* only the verifier says so much, and its text holds no names of other programs */
	if (i >= (int)sizeof(text))
		return vfprintf(stderr, fmt, ap);
	for (line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		note("%.*s", (int)strcspn(line, "\n"), line);
	return 0;
}

/* ======== 6. small I/O ============================================================== */

/* Closes a descriptor; < 0: there is none. */
static void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

/*
 * Reads a file, up to size - 1 bytes, and puts a 0 in place of the newline at its end, or behind it.
 * Returns the length; 0: the file cannot be read, or is empty.
 */
__attribute__((format(printf, 3, 4)))
static size_t read_file(char *buf, size_t size, const char *fmt, ...)
{
	size_t len = 0;
	char path[256];
	va_list ap;
	ssize_t n;
	int fd;

	va_start(ap, fmt);
	n = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	fd = n < (ssize_t)sizeof(path) ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	while (fd >= 0 && len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	fd_close(fd);
	len -= len && buf[len - 1] == '\n';
	buf[len] = 0;
	return len;
}

/* The names in a folder. opendir() allocates, which gamer does not once it is attached. */
struct dir {
	int fd;			/* < 0: no more names, or the folder cannot be read */
	long len, at;		/* bytes in buf, and how many of these were taken */
	char buf[4096];
};

__attribute__((format(printf, 2, 3)))
static void dir_open(struct dir *d, const char *fmt, ...)
{
	char path[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d->len = d->at = 0;
}

/* For a caller that leaves before the last name. */
static void dir_close(struct dir *d)
{
	fd_close(d->fd);
	d->fd = -1;
}

/* The next name, which is valid until the call after this one; NULL: there is none, and the folder is closed. */
static const char *dir_next(struct dir *d)
{
	struct dirent *entry;

	if (d->at == d->len) {
		d->len = d->fd < 0 ? 0 : syscall(SYS_getdents64, d->fd, d->buf, sizeof(d->buf));
		d->at = 0;
	}
	if (d->len <= 0) {
		d->len = 0;
		dir_close(d);
		return NULL;
	}
	entry = (struct dirent *)(d->buf + d->at);
	d->at += entry->d_reclen;
	return entry->d_name;
}

/* The next name that is a number, as processes, threads and descriptors have in /proc; -1: there is none. */
static s32 dir_number(struct dir *d)
{
	const char *name;

	do
		name = dir_next(d);
	while (name && (*name < '0' || *name > '9'));
	return name ? atoi(name) : -1;
}

/* Whole number in a one-line file, or `fallback`. */
static s64 read_num(s64 fallback, const char *path)
{
	char buf[64], *end;
	s64 n;

	read_file(buf, sizeof(buf), "%s", path);
	n = strtoll(buf, &end, 0);
	return end == buf ? fallback : n;
}

/* In a PID namespace processes have other numbers than in BPF. The first namespace has a fixed number. */
static bool pids_are_other(void)
{
	char ns[32] = "";

	return readlink("/proc/self/ns/pid", ns, sizeof(ns) - 1) > 0 && strcmp(ns, "pid:[4026531836]");
}

/*
 * Finds a regular file that another process named, without opening it: no device, FIFO or server
 * behind a file system learns that somebody looks. The path counts from the
 * directory `root` ("/proc/PID/root") and cannot leave it; its last name is no link. `resolve`
 * says more (RESOLVE_* of openat2()): NO_SYMLINKS for a path as mappings show it, CACHED where gamer
 * must not wait. Without a root (NULL) gamer itself chose the path, and links in /proc are
 * followed. Returns a descriptor that names the file and cannot read it, with the file's attributes,
 * as far as they are known, in *s; or -1. The caller compares those, and then reads by file_reopen().
 */
static int open_checked(const char *root, const char *path, u64 resolve, struct stat *s)
{
	int dir = root ? open(root, O_PATH | O_DIRECTORY | O_CLOEXEC) : AT_FDCWD, fd;
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | (root ? O_NOFOLLOW : 0),
		.resolve = root ? resolve | RESOLVE_IN_ROOT : 0,
	};

	if (root && dir < 0)
		return -1;
	fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
	if (root)
		close(dir);
	if (fd >= 0 && (fstatat(fd, "", s, AT_EMPTY_PATH | AT_STATX_DONT_SYNC) || !S_ISREG(s->st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/*
 * Opens the same file for reading; -1 and errno where that is not permitted. The call waits for as
 * long as a server or a disk does not answer, and only a signal that kills ends the wait.
 */
static int file_reopen(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/*
 * Is it the file that mappings show by these numbers, the device as MAJOR << 32 | MINOR? File
 * systems without a device (major 0: btrfs, overlayfs) number it otherwise for stat().
 */
static bool mapped_as(const struct stat *s, u64 dev, u64 ino)
{
	return s->st_ino == ino && (!(dev >> 32) || !major(s->st_dev) ||
				    dev == ((u64)major(s->st_dev) << 32 | minor(s->st_dev)));
}

/* Writes all of it, if need be in parts; false: errno says why not. */
static bool write_all(int fd, const char *data, size_t len)
{
	ssize_t n;

	for (; len; data += n, len -= n) {
		n = write(fd, data, len);
		if (n < 0 && errno != EINTR)
			return false;
		n = MAX(n, 0);
	}
	return true;
}

static void out_flush(struct out *o)
{
	if (o->fd < 0)
		return;
	if (!write_all(o->fd, o->buf, o->len))
		o->failed = errno;
	o->len = 0;
}

/* Empties the output. From now on text is kept in it, and cut where it does not fit. */
static void out_keep(struct out *o)
{
	o->fd = -1;
	o->len = o->failed = 0;
}

static struct out std_out;	/* to stdout; main() opens and flushes it */

__attribute__((format(printf, 2, 3)))
static void out_f(struct out *o, const char *fmt, ...)
{
	va_list ap;
	size_t n;
	int try;

	for (try = 0; try < 2; try++) {
		va_start(ap, fmt);
		n = text_vf(o->buf + o->len, OUT_SIZE - o->len, fmt, ap);
		va_end(ap);
		if (n < OUT_SIZE - o->len) {
			o->len += n;
			return;
		}
		if (o->fd < 0 || !o->len)
			break;
		out_flush(o);
	}
	o->failed = E2BIG;
}

/*
 * Event lines are made of many short pieces, thousands of lines a second. Compiled for speed, and
 * copied byte by byte, they take 0.6 % of a CPU at 8000 a second, else 0.9 % (bench-events).
 */
#define HOT __attribute__((optimize("O2", "no-tree-loop-distribute-patterns")))

/* Adds text as it is; what does not fit is cut, or the output is written first. */
HOT static void out_put(struct out *o, const char *s, size_t len)
{
	char *to;

	if (OUT_SIZE - o->len <= len && o->fd >= 0)
		out_flush(o);
	if (OUT_SIZE - o->len <= len) {
		o->failed = E2BIG;
		return;
	}
	for (to = o->buf + o->len, o->len += len; len; len--)
		*to++ = *s++;
}

/* UTF-8 stays UTF-8. What would break the JSON, or steer a terminal that shows it, is escaped. */
HOT static void json_text(struct json *j, const char *s)
{
	const char *plain = s;	/* from here on nothing needs escaping */
	size_t len;
	u32 c;

	out_put(j->o, "\"", 1);
	for (; *s; s += len) {
		c = (u8)*s;
		len = 1;
		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
			continue;
		if (c >= 0x80)
			len = utf8_next(s, SIZE_MAX, &c);
		if (c >= 0x80 && !text_steers(c))
			continue;
		out_put(j->o, plain, s - plain);
		plain = s + len;
		out_f(j->o, c == '"' || c == '\\' ? "\\%c" : "\\u%04x", c);
	}
	out_put(j->o, plain, s - plain);
	out_put(j->o, "\"", 1);
}

/* A key that needs no escapes, NULL inside arrays. Without a format: there are thousands a second. */
static void json_key(struct json *j, const char *key)
{
	if (j->comma & (1ULL << j->depth))
		out_put(j->o, ",", 1);
	j->comma |= 1ULL << j->depth;
	if (!key)
		return;
	out_put(j->o, "\"", 1);
	out_put(j->o, key, strlen(key));
	out_put(j->o, "\":", 2);
}

static void json_open(struct json *j, const char *key, char bracket)
{
	json_key(j, key);
	out_put(j->o, &bracket, 1);
	j->comma &= ~(1ULL << ++j->depth);
}

static void json_close(struct json *j, char bracket)
{
	j->depth--;
	out_put(j->o, &bracket, 1);
}

HOT static void json_u64(struct json *j, const char *key, u64 v)
{
	char digits[20], *at = digits + sizeof(digits);

	do
		*--at = '0' + v % 10;
	while (v /= 10);
	json_key(j, key);
	out_put(j->o, at, digits + sizeof(digits) - at);
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

HOT static void json_str(struct json *j, const char *key, const char *s)
{
	json_key(j, key);
	json_text(j, s);
}

/*
 * Members by a format: "key=%u name=%s part=%.2f", with the arguments of printf(). Types are %u, %lu, %llu, %s and
 * %.Nf; "key?=%u" is left out where it is 0 or NULL. "key{", "{", "}" and the same with brackets open and close.
 */
__attribute__((format(printf, 2, 3)))
HOT static void json_f(struct json *j, const char *fmt, ...)
{
	const char *text;
	u32 longs;
	char key[32];
	va_list ap;
	size_t len;
	bool some;
	double v;
	u64 n;

	va_start(ap, fmt);
	for (; *fmt; fmt += *fmt == ' ') {
		len = strcspn(fmt, "=?{}[]");
		memcpy(key, fmt, MIN(len, sizeof(key) - 1));
		key[MIN(len, sizeof(key) - 1)] = 0;
		fmt += len;
		some = *fmt == '?';
		if (*fmt == '{' || *fmt == '[') {
			json_open(j, len ? key : NULL, *fmt++);
			continue;
		}
		if (*fmt == '}' || *fmt == ']') {
			json_close(j, *fmt++);
			continue;
		}
		fmt += some + 2;
		longs = strspn(fmt, "l");
		if (*fmt == 's') {
			text = va_arg(ap, const char *);
			if (!some || text)
				json_str(j, key, text ? : "");
		} else if (*fmt == '.') {
			v = va_arg(ap, double);
			if (!some || v)
				json_f64(j, key, v, *++fmt - '0');
			fmt = strchr(fmt, 'f');
		} else {
			n = longs ? va_arg(ap, u64) : va_arg(ap, u32);
			if (!some || n)
				json_u64(j, key, n);
		}
		fmt += longs + 1;
	}
	va_end(ap);
}

/* Begins an answer: every answer has these members. */
static void json_begin(struct json *j, struct out *o, const char *command)
{
	*j = (struct json){ .o = o };
	json_f(j, "{v=%u command=%s", 1, command);
}

static void json_end(struct json *j)
{
	json_close(j, '}');
	out_put(j->o, "\n", 1);
}

/* The folder of the socket, status and last_exit: the first one, where systemd lists several. */
static const char *runtime_dir(void)
{
	static char dir[80];
	const char *list = getenv("RUNTIME_DIRECTORY");
	int len = list && *list == '/' ? strcspn(list, ":") : 0;

	if (!len || len >= (int)sizeof(dir))
		return "/run/gamer";
	snprintf(dir, sizeof(dir), "%.*s", len, list);
	return dir;
}

/* The path of a file in it, until the next call. */
static const char *runtime_path(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", runtime_dir(), name);
	return path;
}

/* Copies the folder of a path, or "./", to `dir`; returns the name behind it, NULL: the folder is too long. */
static const char *path_split(const char *path, char *dir, size_t size)
{
	const char *slash = strrchr(path, '/');
	int len = slash ? slash - path + 1 : 2;

	if (len >= (int)size)
		return NULL;
	snprintf(dir, size, "%.*s", len, slash ? path : "./");
	return slash ? slash + 1 : path;
}

/*
 * gamer writes every file whole or not at all: file_begin(), writes to fd, file_end(). A temporary file
 * grows beside the file that is wanted, and takes its name in the end. Under that name may stand a
 * regular file that gamer may write, or nothing: no device, pipe, socket, link or folder. A user who puts
 * something else there between that check and the rename can write to the folder, and loses only what
 * that user put there: rename follows no link.
 */
struct file {
	int dir_fd, fd;
	const char *name;	/* of the file in that folder; the caller keeps it */
	mode_t mode;		/* that the file gets in the end */
	char tmp[NAME_MAX + 1];	/* the temporary file's name */
};

static const char *file_why;	/* why the last file could not be written */

static int file_fails(int code, const char *why)
{
	file_why = why;
	return code;
}

/*
 * May a new file take that name? Returns 0 or an exit code. *mode: the mode of the file that has the
 * name now, if gamer's user owns it; no other user chooses who may write to the new one.
 */
static int file_check(int dir_fd, const char *name, mode_t *mode)
{
	struct stat sb;

	if (!*name)
		return file_fails(EX_CANTCREAT, "it is no regular file");
	if (fstatat(dir_fd, name, &sb, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : file_fails(EX_CANTCREAT, strerror(errno));
	if (!S_ISREG(sb.st_mode))
		return file_fails(EX_CANTCREAT, S_ISLNK(sb.st_mode) ? "it is a symbolic link" :
				  "it is no regular file");
	if (faccessat(dir_fd, name, W_OK, AT_EACCESS))
		return file_fails(EX_CANTCREAT, strerror(errno));
	if (sb.st_uid == geteuid())
		*mode = sb.st_mode;
	return 0;
}

/*
 * Removes the temporary file of a gamer that was killed: a file of the same user, with the
 * sticky bit (only temporary files have it), and not locked (its writer holds the lock).
 */
static void file_sweep(int dir_fd, const char *tmp)
{
	struct stat sb;
	int fd;

	if (fstatat(dir_fd, tmp, &sb, AT_SYMLINK_NOFOLLOW) || !S_ISREG(sb.st_mode) ||
	    !(sb.st_mode & S_ISVTX) || sb.st_uid != geteuid())
		return;
	fd = openat(dir_fd, tmp, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB))
		unlinkat(dir_fd, tmp, 0);
	fd_close(fd);
}

/*
 * Returns 0, or an exit code; then file_why says why. `path` counts from the folder at_fd, and the caller
 * keeps it. The temporary name is always the same, so that at most one such file is left behind; where
 * another writer has the name, or somebody who wants the write to fail, a random name is used.
 */
static int file_begin(struct file *f, int at_fd, const char *path)
{
	char dir[PATH_MAX];
	struct stat sb;
	int code, try;

	f->name = path_split(path, dir, sizeof(dir));
	f->mode = 0;
	f->dir_fd = f->name ? openat(at_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (f->dir_fd < 0)
		return file_fails(EX_CANTCREAT, strerror(f->name ? errno : ENAMETOOLONG));
	code = file_check(f->dir_fd, f->name, &f->mode);
	for (try = 0; !code && try < 4; try++) {
		snprintf(f->tmp, sizeof(f->tmp), ".%.200s.gamer-%" PRIx64, f->name, try < 2 ? 0 : now_ns());
		f->fd = openat(f->dir_fd, f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			       S_ISVTX | (f->mode ? f->mode & 0777 : 0644));
		if (f->fd < 0 && errno != EEXIST)
			break;
		if (f->fd < 0) {
			file_sweep(f->dir_fd, f->tmp);
			continue;
		}
		/* Was it swept before it had its lock? Some file systems have no locks. */
		if ((!flock(f->fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK) && !fstat(f->fd, &sb) && sb.st_nlink) {
			f->mode = f->mode ? : sb.st_mode;
			return 0;
		}
		close(f->fd);
	}
	code = code ? : file_fails(EX_CANTCREAT, strerror(errno));
	close(f->dir_fd);
	return code;
}

/*
 * Gives the file its name if `err` is 0; else (an errno) removes it. `durable`: after a power cut neither
 * half a file nor the old one is there. Returns 0 or an exit code, see file_why.
 */
static int file_end(struct file *f, int err, bool durable)
{
	mode_t mode;
	int code = err ? file_fails(EX_IOERR, strerror(err)) : file_check(f->dir_fd, f->name, &mode);

	if (!code && durable && fsync(f->fd))
		code = file_fails(EX_IOERR, strerror(errno));
	if (!code && renameat(f->dir_fd, f->tmp, f->dir_fd, f->name))
		code = file_fails(EX_CANTCREAT, strerror(errno));
	if (code)
		unlinkat(f->dir_fd, f->tmp, 0);
	else
		fchmod(f->fd, f->mode & 0777);
	if (!code && durable && fsync(f->dir_fd))
		code = file_fails(EX_IOERR, strerror(errno));
	close(f->fd);
	close(f->dir_fd);
	return code;
}

static int file_write(int at_fd, const char *path, const void *data, size_t len, bool durable)
{
	struct file f;
	int code = file_begin(&f, at_fd, path);

	return code ? : file_end(&f, write_all(f.fd, data, len) ? 0 : errno, durable);
}

/* Opens stdout, or the file `path` where that is not NULL. NULL: not possible, file_why says why. */
static struct out *out_open(struct file *f, const char *path)
{
	struct out *o = &std_out;

	if (path && file_begin(f, AT_FDCWD, path))
		return NULL;
	o->fd = path ? f->fd : STDOUT_FILENO;
	o->failed = 0;
	return o;
}

/* Ends what out_open() began. Returns 0, or an exit code after a message of the command `who`. */
static int out_close(struct out *o, struct file *f, const char *path, const char *who)
{
	int code = EX_CANTCREAT;

	if (o) {
		out_flush(o);
		code = path ? file_end(f, o->failed, true) : o->failed ? file_fails(EX_IOERR, strerror(o->failed)) : 0;
	}
	if (code)
		note("%s: cannot write %s: %s", who, path ? : "the report", file_why);
	return code;
}

/* Tries now what would fail only after a long run, and leaves no file behind. */
static void out_check(const char *path, const char *who)
{
	struct file f;

	if (path && file_begin(&f, AT_FDCWD, path))
		die(EX_CANTCREAT, "%s: cannot write %s: %s", who, path, file_why);
	if (path)
		file_end(&f, ECANCELED, false);
}

/*
 * Writes a file that others read while gamer runs. A failure is said once, and again when its reason
 * (*was: the last one) changes. Not durable: the file is written anew within seconds, and need not
 * wake the disk.
 */
static void write_whole(const char *path, const char *text, size_t len, const char **was)
{
	int code = file_write(AT_FDCWD, path, text, len, false);

	if (code && file_why != *was)
		note("cannot write %s: %s", path, file_why);
	*was = code ? file_why : NULL;
}

/* A file of the runtime directory. */
static void write_atomic(const char *name, const char *text, size_t len)
{
	static const char *was;

	write_whole(runtime_path(name), text, len, &was);
}

static struct sockaddr_un socket_address(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", runtime_path("gamer.sock"));
	return sa;
}

/* systemd's readiness protocol, without its library. */
__attribute__((format(printf, 1, 2)))
static void sd_notify_(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char text[256];
	size_t len = path ? strlen(path) : 0, n;
	va_list ap;
	int fd;

	if (!len || !strchr("/@", *path) || len >= sizeof(sa.sun_path))
		return;
	memcpy(sa.sun_path, path, len);
	if (path[0] == '@')
		sa.sun_path[0] = 0;
	va_start(ap, fmt);
	n = text_vf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, text, MIN(n, sizeof(text) - 1), MSG_NOSIGNAL | MSG_DONTWAIT,
	       (struct sockaddr *)&sa, offsetof(struct sockaddr_un, sun_path) + len);
	close(fd);
}

/* A message to or from a child, with the files that go along. */
#define MESSAGE_FILES	3

struct message {
	struct iovec data;
	struct msghdr head;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MESSAGE_FILES * sizeof(int))];
	} files;
};

static void message_init(struct message *m, void *data, size_t size)
{
	*m = (struct message){ .data = { .iov_base = data, .iov_len = size } };
	m->head = (struct msghdr){ .msg_iov = &m->data, .msg_iovlen = 1,
				   .msg_control = m->files.buf, .msg_controllen = sizeof(m->files.buf) };
}

/* Sends a message with the first `n` of `fds`. False: the other end has gone, or (MSG_DONTWAIT) is slow. */
static bool message_send(int sock, void *data, size_t size, const int *fds, u32 n, int flags)
{
	struct cmsghdr *c;
	struct message m;

	message_init(&m, data, size);
	if (n) {
		c = CMSG_FIRSTHDR(&m.head);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	m.head.msg_controllen = n ? CMSG_SPACE(n * sizeof(int)) : 0;
	return sendmsg(sock, &m.head, flags | MSG_NOSIGNAL) == (ssize_t)size;
}

/* Returns the message's size, 0: the other end has gone, or -1 (errno). The caller closes all `fds` that are not -1. */
static ssize_t message_receive(int sock, void *data, size_t size, int fds[MESSAGE_FILES], int flags)
{
	struct cmsghdr *c;
	struct message m;
	ssize_t n;

	message_init(&m, data, size);
	memset(fds, -1, MESSAGE_FILES * sizeof(int));
	n = recvmsg(sock, &m.head, flags | MSG_CMSG_CLOEXEC);
	c = n > 0 ? CMSG_FIRSTHDR(&m.head) : NULL;
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), MIN(c->cmsg_len - CMSG_LEN(0), MESSAGE_FILES * sizeof(int)));
	return n;
}

/* What an epoll event is about; timers come first, and rings, clients and processes each have a row. */
enum {
	EV_MODULE,	/* modules that come have had time to start */
	EV_WATCHDOG,	/* systemd wants a sign of life */
	EV_GAME,	/* a look is due, or the child should have answered; timer_arm() */
	EV_BATCH,	/* frequent events are taken */
	EV_PUBLISH,	/* the status and metrics files are written anew */
	EV_FAIR,	/* a look at all threads is due; fair_turn() */
	EV_TIMERS,
	EV_SIGNAL = EV_TIMERS, EV_LISTEN, EV_UEVENT, EV_READER, EV_WINE,
	EV_RING, EV_CLIENT = EV_RING + EVENT_NR, EV_PIDFD = EV_CLIENT + MAX_CLIENTS,
};

static int loop_timers[EV_TIMERS];	/* loop_open() */

static bool loop_set(int op, int fd, u64 data, u32 events)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return !epoll_ctl(st.epoll_fd, op, fd, &ev);
}

static void loop_add(int fd, u64 data, u32 events)
{
	if (fd >= 0 && !loop_set(EPOLL_CTL_ADD, fd, data, events))
		die(EX_SOFTWARE, "epoll: %s", strerror(errno));
}

/* Has a timer ended since the last call? epoll reports a timer until somebody reads it. */
static bool timer_ended(u32 timer)
{
	u64 ticks;

	return read(loop_timers[timer], &ticks, sizeof(ticks)) == sizeof(ticks);
}

/* Has a timer end after `first_ns`, and then every `period_ns`; 0: never. */
static void timer_set(u32 timer, u64 first_ns, u64 period_ns)
{
	const struct itimerspec its = {
		.it_value = { first_ns / NSEC_PER_SEC, first_ns % NSEC_PER_SEC },
		.it_interval = { period_ns / NSEC_PER_SEC, period_ns % NSEC_PER_SEC },
	};

	timerfd_settime(loop_timers[timer], 0, &its, NULL);
}

/* Are the first `len` bytes at `at` that word? */
static bool word_is(const char *at, size_t len, const char *word)
{
	return strlen(word) == len && !strncmp(at, word, len);
}

/*
 * Sets in *bits the bit of each of names[] that `list` has: "a,b" up to a quotation mark or the end.
 * Returns the first word of the list that is no such name, or NULL.
 */
static const char *list_bits(u32 *bits, const char *list, const char *const *names, u32 nr)
{
	size_t len;
	u32 i;

	*bits = 0;
	for (; *list && *list != '"'; list += len + (list[len] == ',')) {
		len = strcspn(list, ",\"");
		for (i = 0; i < nr && !word_is(list, len, names[i]); i++)
			;
		if (i == nr)
			return list;
		*bits |= 1U << i;
	}
	return NULL;
}

/* The same for --option=a,b; ends gamer where a word is no such name. */
static u32 list_parse(const char *option, const char *list, const char *const *names, u32 nr)
{
	char all[256];
	u32 bits, n = 0, i;
	const char *bad = list_bits(&bits, list ? list : "", names, nr);

	if (!bad)
		return bits;
	for (i = 0; i < nr && n < sizeof(all); i++)
		n += snprintf(all + n, sizeof(all) - n, " %s", names[i]);
	die(EX_USAGE, "--%s: '%.*s' is none of%s", option, (int)strcspn(bad, ","), bad, all);
}

/* Blocks these signals (the list ends with 0); returns a descriptor that is readable once one has come. */
static int signals_open(const int *signals)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (; *signals; signals++)
		sigaddset(&set, *signals);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		die(EX_OSERR, "signalfd: %s", strerror(errno));
	return fd;
}

/* Has `fn` called by each signal that would end gamer; `fn` raises it again. Ignored signals stay ignored. */
static void signals_catch(void (*fn)(int sig))
{
	static const int fatal[] = {
		SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGUSR1,
		SIGSEGV, SIGUSR2, SIGALRM, SIGSYS, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF,
	};
	struct sigaction sa = { .sa_handler = fn, .sa_flags = SA_RESETHAND }, was;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fatal); i++)
		if (!sigaction(fatal[i], &sa, &was) && was.sa_handler == SIG_IGN)
			signal(fatal[i], SIG_IGN);
}

/* ======== 7. topology =============================================================== */

/* Read at start and after every hotplug; only what the BPF side needs. */
static struct topology {
	u32 nr_cpus;			/* possible CPUs */
	u32 nr_llcs;
	bool smt, hybrid;
	bool online[MAX_CPUS];
	u16 llc[MAX_CPUS];		/* cache index; a cache of more than LLC_CPUS counts as several */
	u16 sibling[MAX_CPUS];		/* itself where none */
	u32 rank[MAX_CPUS];		/* capacity or preferred-core rank, larger is faster */
	u32 llc_cpus[MAX_LLCS];		/* online CPUs of a cache */
} topo;

/* Sets set[cpu] for every CPU of a list such as "0-3,8". Returns the highest CPU + 1, or -1. */
static int topo_parse_list(const char *list, bool *set)
{
	int highest = 0, a, b, n;

	for (; *list; list += n + (list[n] == ',')) {
		n = 0;
		if (sscanf(list, "%d%n-%d%n", &a, &n, &b, &n) < 2)
			b = a;
		if (!n || a < 0 || b < a || b >= MAX_CPUS || (list[n] && list[n] != ','))
			return -1;
		memset(set + a, true, b + 1 - a);
		highest = MAX(highest, b + 1);
	}
	return highest;
}

/* First CPU of the largest cache that this CPU shares; its number names the cache. */
static u32 topo_llc_leader(u32 cpu)
{
	char buf[256];
	int index;

	for (index = 9; index >= 0; index--)
		if (read_file(buf, sizeof(buf), "/sys/devices/system/cpu/cpu%u/cache/index%d/shared_cpu_list", cpu,
			      index) > 0)
			return strtoul(buf, NULL, 10);
	/* No cache information (some virtual machines): one cache per package. */
	if (read_file(buf, sizeof(buf), "/sys/devices/system/cpu/cpu%u/topology/package_cpus_list", cpu) > 0)
		return strtoul(buf, NULL, 10);
	return 0;
}

static u32 topo_rank(u32 cpu)
{
	static const char *const files[] = {
		"cpufreq/amd_pstate_prefcore_ranking", "cpu_capacity", "acpi_cppc/highest_perf",
	};
	char buf[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		if (read_file(buf, sizeof(buf), "/sys/devices/system/cpu/cpu%u/%s", cpu, files[i]) && atoi(buf) > 0)
			return atoi(buf);
	return 0;
}

static void topo_read_cpu(u32 cpu, u32 *leaders)
{
	char buf[256];
	u32 leader, other = cpu, i;
	char *end;

	leader = st.tests & 1U << PART_LLC ? 0 : topo_llc_leader(cpu);
	for (i = 0; i < topo.nr_llcs && (leaders[i] != leader || topo.llc_cpus[i] == LLC_CPUS); i++)
		;
	if (i == topo.nr_llcs) {
		if (i == MAX_LLCS)
			die(EX_UNAVAILABLE, "this machine has more than %d last-level caches", MAX_LLCS);
		leaders[topo.nr_llcs++] = leader;
	}
	topo.llc[cpu] = i;
	topo.llc_cpus[i]++;
	/* a core has two threads at most: "0,4", "0-1" */
	if (read_file(buf, sizeof(buf), "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu)) {
		other = strtoul(buf, &end, 10);
		if (other == cpu && *end)
			other = strtoul(end + 1, NULL, 10);
	}
	topo.sibling[cpu] = other < topo.nr_cpus ? other : cpu;
	topo.smt |= topo.sibling[cpu] != cpu;
	topo.rank[cpu] = topo_rank(cpu);
}

static void topo_read(void)
{
	static bool possible[MAX_CPUS];
	u32 leaders[MAX_LLCS] = { 0 }, cpu, best = 0, worst = ~0u;
	char buf[1024];
	int n;

	memset(&topo, 0, sizeof(topo));
	if (!read_file(buf, sizeof(buf), "/sys/devices/system/cpu/possible"))
		die(EX_UNAVAILABLE, "cannot read /sys/devices/system/cpu/possible: is /sys mounted?");
	n = topo_parse_list(buf, possible);
	if (n <= 0)
		die(EX_UNAVAILABLE, "this machine has more than %d CPUs (%s)", MAX_CPUS, buf);
	topo.nr_cpus = n;
	if (!read_file(buf, sizeof(buf), "/sys/devices/system/cpu/online") || topo_parse_list(buf, topo.online) <= 0)
		memcpy(topo.online, possible, sizeof(possible));
	for (cpu = 0; cpu < topo.nr_cpus; cpu++) {
		if (!topo.online[cpu])
			continue;
		topo_read_cpu(cpu, leaders);
		best = MAX(best, topo.rank[cpu]);
		worst = MIN(worst, topo.rank[cpu]);
	}
	topo.hybrid = worst != best;
	if (st.tests & 1U << PART_SMT)
		topo.smt = false;
	if (args.run.fast_cpus) {
		bool fast[MAX_CPUS] = { 0 };

		n = topo_parse_list(args.run.fast_cpus, fast);
		if (n <= 0 || n > (int)topo.nr_cpus)
			die(EX_USAGE, "--fast-cpus: '%s' is no list of CPUs of this machine (0-%u), such as 0,1",
			    args.run.fast_cpus, topo.nr_cpus - 1);
		for (cpu = 0; cpu < topo.nr_cpus; cpu++)
			topo.rank[cpu] = fast[cpu];
		topo.hybrid = true;
	}
}

/* How slow a CPU is, 0 to SPEEDS - 1. */
static u32 topo_speed(u32 cpu, u32 best)
{
	return topo.online[cpu] && best ? MIN((best - topo.rank[cpu]) * SPEED_STEPS / best, SPEEDS - 1) : SPEEDS - 1;
}

/* The CPUs of a cache by bit: the slowest first, the threads of a core side by side, as pick_compact() wants them. */
static void topo_order_cpus(struct gamer_bpf *skel, u32 best)
{
	u32 used[MAX_LLCS] = { 0 }, speed, core, cpu, llc;
	bool placed[MAX_CPUS] = { 0 };

	for (speed = SPEEDS; speed--;)
		for (core = 0; core < topo.nr_cpus; core++) {
			if (topo_speed(core, best) != speed)
				continue;
			for (cpu = core; topo.online[cpu] && !placed[cpu]; cpu = topo.sibling[core]) {
				placed[cpu] = true;
				llc = topo.llc[cpu];
				skel->rodata->cpu_at[llc * LLC_CPUS + used[llc]] = cpu;
				skel->rodata->cpu_bit[cpu] = used[llc]++;
			}
		}
}

static void topo_to_bpf(struct gamer_bpf *skel)
{
	u32 cpu, llc, mask = 1, best = 0;

	while (mask < topo.nr_cpus)
		mask *= 2;
	skel->rodata->cpu_mask = mask - 1;
	if (bpf_map__set_value_size(skel->maps.bss_cpus, mask * sizeof(struct cpu_state)))
		die(EX_SOFTWARE, "cannot size the state of %u CPUs", mask);
	skel->rodata->nr_cpu_ids = topo.nr_cpus;
	skel->rodata->nr_llcs = topo.nr_llcs;
	skel->rodata->smt_on = topo.smt;
	skel->rodata->hybrid = topo.hybrid;
	for (cpu = 0; cpu < topo.nr_cpus; cpu++)
		best = MAX(best, topo.rank[cpu]);
	for (cpu = 0; cpu < topo.nr_cpus; cpu++) {
		skel->rodata->cpu_llc[cpu] = topo.llc[cpu];
		skel->rodata->cpu_sibling[cpu] = topo.sibling[cpu];
		skel->rodata->cpu_rank[cpu] = topo_speed(cpu, best);
	}
	topo_order_cpus(skel, best);
	for (llc = 0; llc < topo.nr_llcs; llc++)
		skel->rodata->llc_depth_recip[llc] = MAX(1024 / MAX(topo.llc_cpus[llc], 1u), 1u);
}

/* Does this file of a power supply begin with `begin`? */
static bool supply_is(const char *supply, const char *file, const char *begin)
{
	char text[32];

	return read_file(text, sizeof(text), "/sys/class/power_supply/%s/%s", supply, file) > 0 &&
	       !strncmp(text, begin, strlen(begin));
}

/*
 * Does the machine run on its battery? It does where a battery discharges and no charger is plugged in.
 * A mouse, a headset or a gamepad has a battery of its own, whose scope is the device.
 */
static bool power_on_battery(void)
{
	bool battery = false, mains = false;
	const char *name;
	struct dir d;

	for (dir_open(&d, "/sys/class/power_supply"); (name = dir_next(&d)); ) {
		if (supply_is(name, "scope", "Device"))
			continue;
		battery |= supply_is(name, "type", "Battery") && supply_is(name, "status", "Discharging");
		mains |= (supply_is(name, "type", "Mains") || supply_is(name, "type", "USB")) &&
			 !supply_is(name, "online", "0");
	}
	return battery && !mains;
}

/* What `auto` means now: the firmware's profile where there is one, else the power source. */
static enum profile power_profile(void)
{
	char buf[64];

	if (args.run.profile != PROFILE_AUTO)
		return args.run.profile;
	if (read_file(buf, sizeof(buf), "/sys/firmware/acpi/platform_profile") > 0) {
		if (!strcmp(buf, "performance"))
			return PROFILE_PERFORMANCE;
		if (!strcmp(buf, "low-power") || !strcmp(buf, "quiet"))
			return PROFILE_POWERSAVE;
	}
	return power_on_battery() ? PROFILE_BALANCED : PROFILE_PERFORMANCE;
}

/* The least frequency that CPUs are asked for, out of 1024: for all work, for the game's critical work. */
static void power_apply(void)
{
	static const u16 floors[][2] = {
		[PROFILE_PERFORMANCE] = { 1024, 1024 },
		[PROFILE_BALANCED] = { 0, 512 },
		[PROFILE_POWERSAVE] = { 0, 256 },
	};

	st.profile = power_profile();
	st.skel->bss->perf_floor = floors[st.profile][0];
	st.skel->bss->perf_game_floor = floors[st.profile][1];
	st.skel->bss->compacts = st.profile == PROFILE_POWERSAVE;
}

/* The mean of what CPUs are asked for now, percent of their highest frequency; NAN: gamer does not ask. */
static double power_asked(void)
{
	u32 cpu, nr = 0, sum = 0;

	for (cpu = 0; cpu < topo.nr_cpus; cpu++)
		if (topo.online[cpu]) {
			sum += st.skel->bss_cpus->cpu_states[cpu].perf;
			nr++;
		}
	return st.skel->rodata->perf_control && nr ? 100.0 * sum / (PERF_STEPS * nr) : NAN;
}

/* ======== 8. capabilities and seccomp =============================================== */

/*
 * What gamer does with which capability: name, when, what is lost without it. START: to
 * load and attach, also again later; READ: in force only in the child that reads what belongs to
 * other processes; FILES: only where a file that gamer writes lies in a folder of another user; FAIR:
 * where gamer advises threads. The first two are all that gamer cannot do without if it does not.
 */
enum cap_when { CAP_START, CAP_READ, CAP_FILES, CAP_FAIR };

static const struct cap {
	const char *name;
	u8 bit;
	u8 when;		/* enum cap_when */
	const char *lost;
} caps[] = {
#define CAP(name, when, lost) { "CAP_" #name, CAP_##name, CAP_##when, lost }
	CAP(BPF, START, ""),
	CAP(PERFMON, START, ""),
	CAP(SYS_ADMIN, START, "no hooks in kernel modules"),
	CAP(SYS_PTRACE, READ, "other users' games are known by what they do alone"),
	CAP(CHECKPOINT_RESTORE, READ, "no wine hook"),
	CAP(DAC_READ_SEARCH, READ, "no wine hook on files that users keep closed"),
	CAP(DAC_OVERRIDE, FILES, ""),
	CAP(SYS_NICE, FAIR, ""),
};
#define CAPS_REQUIRED	2	/* rows */

static void caps_set(u64 effective, u64 permitted)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ .effective = effective, .permitted = permitted },
		{ .effective = effective >> 32, .permitted = permitted >> 32 },
	};

	if (syscall(SYS_capset, &head, data))
		note("cannot set capabilities: %s", strerror(errno));
}

/* The capabilities that this process is permitted; `effective`: those in force. */
static u64 caps_get(bool effective)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	syscall(SYS_capget, &head, data);
	return effective ? data[0].effective | (u64)data[1].effective << 32 :
			   data[0].permitted | (u64)data[1].permitted << 32;
}

/* Capabilities that gamer needs for what it is to do and this process lacks, as "A and B"; NULL: none. */
static const char *missing_capability(void)
{
	static char names[64];
	u64 have = caps_get(true);
	bool needed;
	size_t i;

	if (have & (1ULL << CAP_SYS_ADMIN))	/* includes them */
		have |= 1ULL << CAP_BPF | 1ULL << CAP_PERFMON;
	for (names[0] = 0, i = 0; i < ARRAY_SIZE(caps); i++) {
		needed = i < CAPS_REQUIRED || (st.fair && caps[i].when == CAP_FAIR);
		if (needed && !(have & (1ULL << caps[i].bit)))
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
				 names[0] ? " and " : "", caps[i].name);
	}
	return names[0] ? names : NULL;
}

/* Somebody may have given this process fewer capabilities: one line tells what gamer does without. */
static void caps_tell(void)
{
	u64 have = caps_get(true);
	char text[512] = "";
	size_t i, n = 0;

	for (i = CAPS_REQUIRED; i < ARRAY_SIZE(caps) && n < sizeof(text); i++)
		if (caps[i].lost[0] && !(have & (1ULL << caps[i].bit)))
			n += snprintf(text + n, sizeof(text) - n, "%s %s (%s)", n ? "," : "",
				      caps[i].name, caps[i].lost);
	if (n)
		note("capabilities are missing:%s", text);
}

/* The capabilities of `when` that this process is permitted. */
static u64 caps_for(enum cap_when when)
{
	u64 bits = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(caps); i++)
		bits |= caps[i].when == when ? 1ULL << caps[i].bit : 0;
	return bits & caps_get(false);
}

/* What gamer needs with every slot taken (175 files; 15 MB while it loads), rounded up well. */
static const struct { int resource; const char *name, *set; u64 least; } limits[] = {
	{ RLIMIT_NOFILE, "RLIMIT_NOFILE", "ulimit -n, LimitNOFILE=", 256 },
	{ RLIMIT_AS, "RLIMIT_AS", "ulimit -v, LimitAS=", 64 << 20 },
	{ RLIMIT_DATA, "RLIMIT_DATA", "ulimit -d, LimitDATA=", 64 << 20 },
};

/*
 * Ends gamer where a limit is too low, before anything is loaded. `raise`: gamer first tries to raise
 * the limit; programs that gamer starts inherit the raised limit.
 */
static void limits_check(bool raise)
{
	struct rlimit was, now;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		if (getrlimit(limits[i].resource, &was) || was.rlim_cur >= limits[i].least)
			continue;
		now.rlim_cur = limits[i].least;
		now.rlim_max = MAX(was.rlim_max, limits[i].least);
		if (!raise || setrlimit(limits[i].resource, &now))
			die(EX_NOPERM, "not permitted: the limit %s is %" PRIu64 ", gamer needs %" PRIu64
			    " (%s)", limits[i].name, (u64)was.rlim_cur, limits[i].least, limits[i].set);
	}
}

/* Does this folder belong to another user? Only CAP_DAC_OVERRIDE lets root write there. */
static bool folder_foreign(int dir_fd, const char *path)
{
	struct stat s;

	return !fstatat(dir_fd, path, &s, 0) && s.st_uid != geteuid();
}

/*
 * System calls of a gamer that is attached: of its loop, of its children, and what libbpf does to
 * load again; also of the child that names stacks for `gamer profile`. Any other fails with EPERM and
 * is logged by the kernel; gamer is not killed for it, since a call forgotten here would then end the
 * scheduler of the whole machine.
 */
static const u16 allowed_calls[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_open, SYS_openat, SYS_openat2, SYS_close,
	SYS_stat, SYS_fstat, SYS_lstat, SYS_newfstatat, SYS_statx, SYS_lseek, SYS_access, SYS_faccessat,
	SYS_faccessat2, SYS_readlink, SYS_getdents64, SYS_fcntl, SYS_ioctl, SYS_dup, SYS_dup3, SYS_unlink,
	SYS_unlinkat, SYS_rename, SYS_renameat, SYS_fsync, SYS_umask, SYS_flock, SYS_fchmod, SYS_mmap, SYS_munmap,
	SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_memfd_create, SYS_poll, SYS_epoll_create1, SYS_epoll_wait,
	SYS_epoll_pwait, SYS_epoll_ctl, SYS_timerfd_create, SYS_timerfd_settime, SYS_accept4, SYS_socket, SYS_sendto,
	SYS_recvfrom, SYS_shutdown, SYS_setsockopt, SYS_getsockopt, SYS_getpeername, SYS_bpf, SYS_perf_event_open,
	SYS_pidfd_open, SYS_pidfd_getfd, SYS_getpid, SYS_gettid, SYS_geteuid, SYS_prlimit64, SYS_uname,
	SYS_clock_gettime, SYS_futex, SYS_capget, SYS_capset, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
	SYS_restart_syscall, SYS_tkill, SYS_exit, SYS_exit_group, SYS_fork, SYS_clone, SYS_set_tid_address, SYS_wait4,
	SYS_kill, SYS_prctl, SYS_socketpair, SYS_sendmsg, SYS_recvmsg, SYS_close_range, SYS_fstatfs,
#ifdef GAMER_FAIL_ALLOC
	SYS_sigaltstack,		/* a sanitizer's _exit() and longjmp() */
#endif
	SYS_sched_getattr, SYS_sched_setattr,	/* behind FAIR_CALLS: where gamer advises threads */
};
#define FAIR_CALLS	2

static void seccomp_on(void)
{
	static struct sock_filter code[ARRAY_SIZE(allowed_calls) + 6];
	struct sock_fprog prog = { .filter = code };
	struct sock_filter *to = code;
	const u16 *call, *end = allowed_calls + ARRAY_SIZE(allowed_calls) - (st.fair ? 0 : FAIR_CALLS);

	/* the numbers below are those of 64-bit calls, which is what gamer makes */
	*to++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	*to++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, end - allowed_calls + 1);
	*to++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (call = allowed_calls; call < end; call++)
		*to++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, *call, end - call, 0);
	*to++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	*to++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = to - code;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &prog))
		note("the kernel takes no filter of system calls: %s", strerror(errno));
}

/*
 * After attach only what the loop needs is in force. CPUs, modules and children come and go, so what
 * loading and the child that reads need can be taken up again; the rest is gone for good.
 */
static void privileges_drop(bool foreign_folders)
{
	static bool hardened;
	u64 run = (foreign_folders ? caps_for(CAP_FILES) : 0) | (st.fair ? caps_for(CAP_FAIR) : 0);

	caps_set(run, run | caps_for(CAP_START) | caps_for(CAP_READ) | (st.fair ? caps_for(CAP_FILES) : 0));
	if (hardened)
		return;
	hardened = true;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!args.run.no_seccomp)
		seccomp_on();
}

/* ======== 9. kernel probes ========================================================== */

/* Name of the attached sched_ext scheduler into buf; false where none is. */
static bool scx_attached(char *buf, size_t size)
{
	char state[32];

	if (!read_file(state, sizeof(state), SCX_DIR "state") || !strcmp(state, "disabled"))
		return false;
	if (!read_file(buf, size, SCX_DIR "root/ops"))
		snprintf(buf, size, "unknown");
	return true;
}

/*
 * Kernels with isolcpus= refuse to attach any scheduler: then a text that says so, else NULL. Isolated
 * partitions of cpusets do not appear in that file, and kernels take them (6.18, 7.3).
 */
static const char *scx_isolated(void)
{
	static char text[320];
	char cpus[256];

	if (!read_file(cpus, sizeof(cpus), "/sys/devices/system/cpu/isolated"))
		return NULL;
	snprintf(text, sizeof(text), "isolcpus=%s: the kernel takes no scheduler", cpus);
	return text;
}

/* The shortest program */
static const struct bpf_insn insns_none[] = {
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
	{ .code = BPF_JMP | BPF_EXIT },
};

/* Does the kernel take such a program? 0, or errno. */
static int prog_try(const struct bpf_insn *insns, size_t n)
{
	int fd = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, NULL, "GPL", insns, n, NULL);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/* Lockdown: the kernel refuses the program that reads its memory (EINVAL), and takes the shortest. */
static bool kernel_is_closed(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_1, .imm = -8 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = 8 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_probe_read_kernel },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return prog_try(insns, ARRAY_SIZE(insns)) == EINVAL && !prog_try(insns_none, ARRAY_SIZE(insns_none));
}

/* The kernel's BTF, loaded for probes; the caller frees it. NULL: `why` says why. */
static struct btf *kernel_btf(const char **why)
{
	struct btf *btf;

	if (access("/sys/kernel/btf/vmlinux", R_OK)) {
		*why = "no BTF (/sys/kernel/btf/vmlinux)";
		return NULL;
	}
	if (kernel_is_closed()) {
		*why = "lockdown=confidentiality: BPF may not read the kernel's memory";
		return NULL;
	}
	btf = btf__load_vmlinux_btf();
	if (!btf)
		*why = "its BTF cannot be parsed";
	return btf;
}

/* Value of an enumerator of this enum type. False: it does not exist. */
static bool btf_enum_value(const struct btf *btf, const char *type, const char *name, u64 *value)
{
	s32 id = btf__find_by_name_kind(btf, type, BTF_KIND_ENUM64);
	bool wide = id > 0;
	const struct btf_type *t;
	u32 name_at;
	int i;

	if (!wide)
		id = btf__find_by_name_kind(btf, type, BTF_KIND_ENUM);
	if (id <= 0)
		return false;
	t = btf__type_by_id(btf, id);
	for (i = 0; i < btf_vlen(t); i++) {
		name_at = wide ? btf_enum64(t)[i].name_off : btf_enum(t)[i].name_off;
		if (!strcmp(btf__name_by_offset(btf, name_at), name)) {
			*value = wide ? btf_enum64_value(&btf_enum64(t)[i]) : (u32)btf_enum(t)[i].val;
			return true;
		}
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
	int err = prog_try(insns, ARRAY_SIZE(insns));

	/* without permission to load nothing is known: check then says "available" */
	return !err || err == EPERM || err == EACCES;
}

/* Where a per-CPU variable lies in its section; -1: unknown. */
static s64 btf_percpu_offset(const struct btf *btf, const char *name)
{
	s32 id = btf__find_by_name_kind(btf, name, BTF_KIND_VAR);
	s32 section = btf__find_by_name_kind(btf, ".data..percpu", BTF_KIND_DATASEC);
	const struct btf_type *t = section > 0 ? btf__type_by_id(btf, section) : NULL;

	for (u32 i = 0; t && id > 0 && i < btf_vlen(t); i++)
		if (btf_var_secinfos(t)[i].type == (u32)id)
			return btf_var_secinfos(t)[i].offset;
	return -1;
}

/*
 * The bits of the preemption counter that mean interrupt context: hard interrupts, NMIs, and
 * a softirq being served. 7.3 moved them and made the counter 8 bytes; before 6.15 it was in
 * a struct. 0: some other layout, better not read. A kernel that does not tell programs where
 * its variables are tells where they lie side by side: st.irq_from_rq.
 */
static u32 btf_irq_mask(const struct btf *btf)
{
	s32 id = btf__find_by_name_kind(btf, "__preempt_count", BTF_KIND_VAR);
	s64 size, at = btf_percpu_offset(btf, "__preempt_count"), rq = btf_percpu_offset(btf, "runqueues");

	st.irq_from_rq = 0;
	if (id <= 0) {
		id = btf__find_by_name_kind(btf, "pcpu_hot", BTF_KIND_VAR);
		return id > 0 && var_has_address(id) ? 0x00ff0100 : 0;
	}
	if (!var_has_address(id)) {
		if (at < 0 || rq < 0 || !btf_has_member(btf, "sched_entity", "cfs_rq") ||
		    !btf_has_member(btf, "cfs_rq", "rq"))
			return 0;
		st.irq_from_rq = at - rq;
	}
	size = btf__resolve_size(btf, btf__type_by_id(btf, id)->type);
	return size == 4 ? 0x00ff0100 : size == 8 ? 0xff000100 : 0;
}

/* kfuncs that nothing can replace. */
static const char *const required_kfuncs[] = {
	"scx_bpf_create_dsq", "scx_bpf_select_cpu_dfl", "scx_bpf_dsq_nr_queued",
	"scx_bpf_test_and_clear_cpu_idle", "scx_bpf_pick_idle_cpu", "bpf_cpumask_test_cpu",
};

/* NULL where function `name` is in the kernel's BTF or in that of `module`, else why it cannot be had. */
static const char *btf_func_probe(struct btf *btf, const char *name, const char *module)
{
	char path[64];
	struct btf *mod;
	bool found;

	if (btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0)
		return NULL;
	snprintf(path, sizeof(path), "/sys/kernel/btf/%s", module ? module : "");
	mod = module && !access(path, R_OK) ? btf__load_module_btf(module, btf) : NULL;
	found = mod && btf__find_by_name_kind(mod, name, BTF_KIND_FUNC) > 0;
	btf__free(mod);
	if (!found)
		return "not in this kernel, or its module is not loaded";
	/* libbpf opens a module's BTF by its number, which the kernel permits to CAP_SYS_ADMIN alone */
	return caps_get(false) & 1ULL << CAP_SYS_ADMIN ? NULL : "in a module, which needs CAP_SYS_ADMIN";
}

/*
 * Does the kernel take programs of this kind at all? Some refuse trampolines (lockdown), and
 * one refused program would fail the load of all. So an empty one is tried first.
 */
static const char *prog_kind_probe(const struct btf *btf, enum prog_kind kind)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		    .expected_attach_type = kind == PROG_FEXIT ? BPF_TRACE_FEXIT : BPF_TRACE_FENTRY);
	int fd;

	opts.attach_btf_id = btf__find_by_name_kind(btf, "udp_sendmsg", BTF_KIND_FUNC);
	fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, NULL, "GPL", insns_none, ARRAY_SIZE(insns_none), &opts);
	if (fd < 0)
		return errno != EPERM && errno != EACCES ? "the kernel refuses programs of this kind" :
		       missing_capability() ? "not known without permission" :
		       "the kernel does not permit such programs";
	close(fd);
	return NULL;
}

/* Why a program cannot be had, or NULL. */
static const char *prog_probe(struct btf *btf, const struct prog *p)
{
	const char *why;
	char name[64];

	switch ((enum prog_kind)p->kind) {
	case PROG_TP:
		snprintf(name, sizeof(name), "btf_trace_%s", p->target);
		return btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF) > 0 ? NULL : "not in this kernel";
	case PROG_FENTRY:
	case PROG_FEXIT:
		why = btf_func_probe(btf, p->target, p->module);
		return why ? why : prog_kind_probe(btf, p->kind);
	case PROG_KRETPROBE:
		snprintf(name, sizeof(name), "/sys/module/%s", p->module);
		return access(name, F_OK) ? "no such driver is loaded" : NULL;
	case PROG_UPROBE:
		return access("/sys/bus/event_source/devices/uprobe", F_OK) ? "this kernel has no uprobes" : NULL;
	}
	return NULL;
}

/*
 * Is this program wanted? Page flips are seen in the same function as GPU submits, and new
 * names of programs are of interest even where those of threads are not.
 */
static bool prog_wanted(u32 i)
{
	if (progs[i].hook == HOOK_RUNTIME && !st.observing)
		return false;		/* the scheduler's callbacks see it all */
	return !st.hook_off[progs[i].hook] || (i == PROG_gpu_ioctl && !st.hook_off[HOOK_FRAME]) ||
	       (i == PROG_name_changed && !st.hook_off[HOOK_GAME]);
}

/* Why a hook that consists of programs cannot be had. NULL: one of its programs can, which is enough. */
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
	bool have = false;
	u64 value;

	if (st.hook_off[id] && h->need != NEED_PROG)
		return "switched off";
	switch ((enum need)h->need) {
	case NEED_NAME:
		if (btf_malformed_kfunc(btf, h->what))
			return "malformed in this kernel's BTF";
		have = btf__find_by_name(btf, h->what) > 0;
		break;
	case NEED_MEMBER:
		have = btf_has_member(btf, h->what, h->part);
		break;
	case NEED_CONST:
		have = btf_enum_value(btf, h->what, h->part, &value);
		break;
	case NEED_IRQ_BITS:
		st.irq_mask = btf_irq_mask(btf);
		have = st.irq_mask;
		break;
	case NEED_PROG:
		return hook_why_progs(id);
	}
	return have ? NULL : "not in this kernel";
}

/* --hooks=-a,+b: switches optional hooks. */
static void hooks_parse(const char *list)
{
	size_t len;
	bool off;
	int i;

	for (; list && *list; list += len + (list[len] == ',')) {
		off = *list == '-';
		list += off || *list == '+';
		len = strcspn(list, ",");
		for (i = 0; i < HOOK_NR && !word_is(list, len, hooks[i].name); i++)
			;
		if (i == HOOK_NR)
			die(EX_USAGE, "--hooks: no hook is called '%.*s' (see gamer check)", (int)len, list);
		if (off && !hooks[i].optional)
			die(EX_USAGE, "--hooks: '%s' cannot be switched off", hooks[i].name);
		st.hook_off[i] = off;
	}
}

/* Fills st.kernel_const and st.hook_why. Returns why scheduling is impossible, or NULL. */
static const char *kernel_probe(struct btf *btf)
{
	static char why[160];
#define KCONST_ROW(name, type, required) { #name, #type, required },
	static const struct { const char *name, *type; bool required; } consts[] = { KERNEL_CONSTS(KCONST_ROW) };
	size_t i;
	u64 tag;

	st.inline_funcs = !btf_enum_value(btf, "btf_arg_tag", "ARG_TAG_TRUSTED", &tag);
	for (i = 0; i < PROG_NR; i++)
		st.prog_why[i] = prog_probe(btf, &progs[i]);
	for (i = 0; i < HOOK_NR; i++)
		st.hook_why[i] = hook_probe(btf, i);
	if (st.observing) {
		st.hook_why[HOOK_SCHED] = st.hook_why[HOOK_CGROUP] = st.hook_why[HOOK_CPUPERF] =
			st.hook_why[HOOK_KICK] = st.hook_why[HOOK_PEEK] = st.hook_why[HOOK_IMMED] = "observing only";
		return NULL;
	}
	if (st.hook_why[HOOK_SCHED])
		return "no sched_ext";
	for (i = 0; i < ARRAY_SIZE(required_kfuncs); i++)
		if (btf_malformed_kfunc(btf, required_kfuncs[i])) {
			snprintf(why, sizeof(why), "its BTF is malformed: %s shows a hidden argument (the kernel was "
				 "built with old tools)", required_kfuncs[i]);
			return why;
		}
	for (i = 0; i < ARRAY_SIZE(consts); i++)
		if (!btf_enum_value(btf, consts[i].type, consts[i].name, &st.kernel_const[i]) && consts[i].required) {
			snprintf(why, sizeof(why), "its BTF has no %s", consts[i].name);
			return why;
		}
	return NULL;
}

/* ======== 10. process database ====================================================== */

/*
 * What tasks of a program were like, so that its next task begins with that: a compiler's
 * pass has ended before anything that it does tells what it is.
 *
 *   tier          its tasks                                   a new one begins
 *   batch         spent most of their time in bursts over     as cpu_bound, with such a burst
 *                 5 ms, outside of the game and its servers
 *   interactive   slept sooner                                as any task, with its burst and gap
 *   lat_critical  were critical by evidence                   as any task, too
 *
 * A role that exact evidence gave (a submit, a read of a device, Windows' priority) is
 * predicted besides, as evidence of the source `learned`: of a class that admits it, and only
 * while nothing stronger speaks. What is observed comes from BPF's learn_sums, what is predicted
 * goes to its `predictions`.
 *
 * The file, little-endian as this machine: struct db_head, and then a struct db_profile for each program;
 * in V1 and V2 a struct db_old.
 */
#define DB_NAME			"process.db"
#define DB_PLACES		4	/* where the file may lie; db_folder() */
#define DB_MAGIC		0x42444450	/* "PDDB" */
#define DB_HEADER		12	/* bytes, of V1 and V2 */
#define DB_HEADER3		sizeof(struct db_head)
#define DB_FILE_MAX		(DB_HEADER3 + LEARN_PROGRAMS * sizeof(struct db_profile))
#define DB_OBSERVED		3	/* observations before anything is predicted */
#define DB_CONFIDENCE		0.6	/* and what is predicted is at least so sure */
#define DB_VOTES		256	/* then all are halved: habits change */
#define DB_STEPS		32	/* steps of the average that one sum makes at most */
#define DB_DAYS			30	/* a program that nobody started for so long is forgotten */
#define DB_EPOCH_S		1735689600	/* 2025: no clock that is right is behind it */
#define DB_SAVE_NS		(600 * NSEC_PER_SEC)	/* between two writes of the file */

/* How a file begins. That of V1 and V2 ends before `crc`. */
struct db_head {
	u32 magic;		/* DB_MAGIC */
	u32 version;
	u32 count;		/* programs behind it */
	u32 crc;		/* CRC-32 of all but itself */
	u64 saved_s;		/* wall clock of writing */
};
_Static_assert(sizeof(struct db_head) == 24, "file");

/* A program. Numbers that can only be added to stop at their highest value. */
struct db_profile {
	struct learn_key key;	/* comm: not trusted */
	u8 role;		/* enum role */
	u8 zero[3];
	u64 burst_ns;		/* EWMA, see struct learn_sum; db_merge() */
	u64 dev_ns;		/* EWMA of how far observations were from it; db_merge() */
	u64 wakeups_hz;		/* EWMA; db_merge() */
	u64 switches_hz;	/* EWMA; db_merge() */
	u32 observations;	/* db_merge() */
	u32 votes[TIER_NR];	/* observations by tier, halved together; db_merge() */
	u32 role_votes;		/* those by exact evidence for `role` */
	u32 zero2;
	u64 seen_s;		/* wall clock of the last observation */
};
_Static_assert(sizeof(struct db_profile) == 88, "file");

/* The same in V2. V1 goes from burst_ns to observations at once. */
struct db_old {
	char comm[16];
	u8 tier;		/* enum tier */
	u8 zero[7];
	u64 burst_ns;
	u64 dev_ns, wakeups_hz, switches_hz;
	u32 observations, votes;
};
_Static_assert(sizeof(struct db_old) == 64, "file");

static const u8 db_entry_size[] = { 0, 40, sizeof(struct db_old), sizeof(struct db_profile) };	/* by version */

struct db_table {
	u32 count;
	u32 version;		/* of the file, 0: there was none */
	u64 saved_s;		/* wall clock when the file was written, 0: unknown */
	struct db_profile profile[LEARN_PROGRAMS];
};

static struct db {
	struct db_table known;
	const char *wanted;	/* --db: its file, "" for none, NULL for the usual place; cmd_*() */
	bool kept;		/* there is a place for it, locked; else it lives in memory; db_place() */
	int dir_fd;		/* the folder, where it is kept */
	const char *name;	/* of the file in there */
	char path[PATH_MAX + NAME_MAX];	/* both, for messages */
	bool dirty;		/* it differs from the file */
	u64 saved_at_ns;	/* last try to write the file, CLOCK_MONOTONIC; db_save() */
	u32 merge_us;		/* the longest db_drain(), without what the kernel took for it */
	u8 file[DB_FILE_MAX + 1];	/* one more: then it is too large */
} db;

enum db_result { DB_OK, DB_NONE, DB_DENIED, DB_REFUSED, DB_BAD };

/* Keeps for the message why a file cannot be used; returns `result`. */
static char db_why[160];
__attribute__((format(printf, 2, 3)))
static enum db_result db_says(enum db_result result, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(db_why, sizeof(db_why), fmt, ap);
	va_end(ap);
	return result;
}

/* --- a program --- */

static u64 db_votes(const struct db_profile *p)
{
	return (u64)p->votes[TIER_BATCH] + p->votes[TIER_INTERACTIVE] + p->votes[TIER_LAT_CRITICAL];
}

static u32 db_tier(const struct db_profile *p)
{
	u32 tier = TIER_INTERACTIVE, i;

	for (i = 0; i < TIER_NR; i++)
		if (p->votes[i] > p->votes[tier])
			tier = i;
	return tier;
}

/* How sure the tier is, 0..1: the share of its votes, less where bursts vary. */
static double db_confidence(const struct db_profile *p)
{
	u64 votes = db_votes(p);
	double varies = p->burst_ns ? (double)p->dev_ns / p->burst_ns : 1;

	if (p->observations < DB_OBSERVED || !votes)
		return 0;
	return (double)p->votes[db_tier(p)] / votes * (0.5 + 0.5 * (1 - MIN(varies, 1.0)));
}

/* What its next task begins with; false: nothing is sure enough. */
static bool db_predict(const struct db_profile *p, struct prediction *to)
{
	double sure = db_confidence(p);
	u64 votes = MAX(db_votes(p), 1ULL), role = MIN(p->role_votes * 100ULL / votes, 100ULL);

	*to = (struct prediction){ .tier = TIER_NR };
	if (sure >= DB_CONFIDENCE) {
		to->tier = db_tier(p);
		to->confidence = sure * 100;
		to->burst_ns = MIN(p->burst_ns, UINT32_MAX);
		to->gap_ns = p->wakeups_hz ? NSEC_PER_SEC / p->wakeups_hz : 0;
	}
	if (p->role && p->observations >= DB_OBSERVED && role >= DB_CONFIDENCE * 100) {
		to->role = p->role;
		to->role_confidence = role;
	}
	return to->tier < TIER_NR || to->role;
}

/* Order of files and lists; by exe where names are the same. */
static int db_compare(const void *a, const void *b)
{
	const struct db_profile *x = a, *y = b;
	int order = memcmp(x->key.comm, y->key.comm, sizeof(x->key.comm));

	return order ? : CMP(x->key.exe, y->key.exe);
}

static struct db_profile *db_find(struct db_table *t, const struct learn_key *key)
{
	struct db_profile *p;

	for (p = t->profile; p < t->profile + t->count; p++)
		if (!memcmp(&p->key, key, sizeof(*key)))
			return p;
	return NULL;
}

/* The wall clock. A flat battery sets it back to before there was a gamer: then the file's time counts. */
static u64 db_now(const struct db_table *t)
{
	u64 now = MAX(time(NULL), 0);

	return now < DB_EPOCH_S ? MAX(now, t->saved_s) : now;
}

/* --- files --- */

/* The CRC of a whole V3 file, without the field that holds the CRC. */
static u32 db_file_crc(const u8 *data, size_t size)
{
	return crc32(crc32(0, data, DB_HEADER), data + DB_HEADER + 4, size - DB_HEADER - 4);
}

/* An entry of V1 or V2 into *p, which is empty. False: it is broken. */
static bool db_from_old(struct db_profile *p, const u8 *data, u32 version)
{
	static const u8 zero[sizeof(((struct db_old *)0)->zero)];
	struct db_old old = { 0 };
	size_t head = offsetof(struct db_old, dev_ns);

	memcpy(&old, data, head);
	memcpy(version == 1 ? (u8 *)&old.observations : (u8 *)&old.dev_ns, data + head, db_entry_size[version] - head);
	if (old.tier >= TIER_NR || memcmp(old.zero, zero, sizeof(zero)))
		return false;
	memcpy(p->key.comm, old.comm, sizeof(old.comm));
	p->burst_ns = old.burst_ns;
	p->dev_ns = old.dev_ns;
	p->wakeups_hz = old.wakeups_hz;
	p->switches_hz = old.switches_hz;
	p->observations = old.observations;
	p->votes[old.tier] = old.votes;
	return true;
}

static struct db_old db_to_old(const struct db_profile *p)
{
	struct db_old old = {
		.tier = db_tier(p), .burst_ns = p->burst_ns, .dev_ns = p->dev_ns, .wakeups_hz = p->wakeups_hz,
		.switches_hz = p->switches_hz, .observations = p->observations, .votes = MIN(db_votes(p), UINT32_MAX),
	};

	memcpy(old.comm, p->key.comm, sizeof(old.comm));
	return old;
}

/* A name that a task can have: not empty, ended, and nothing after its end. */
static bool db_name_ok(const char comm[16])
{
	static const char zero[16];
	size_t len = strnlen(comm, 16);

	return len && len < 16 && !memcmp(comm + len, zero, 16 - len);
}

/* A whole file of any version into *t. Nothing in it is trusted. */
static enum db_result db_decode(struct db_table *t, const u8 *data, size_t size)
{
	struct db_head head = { 0 };
	size_t at, want;
	u32 i;

	memset(t, 0, sizeof(*t));
	if (size < DB_HEADER)
		return db_says(DB_BAD, "has %zu bytes, less than a header", size);
	memcpy(&head, data, MIN(size, sizeof(head)));
	if (head.magic != DB_MAGIC)
		return db_says(DB_BAD, "is no process database");
	if (!head.version || head.version >= ARRAY_SIZE(db_entry_size))
		return db_says(DB_BAD, "has version %u, which is unknown", head.version);
	if (head.count > LEARN_PROGRAMS)
		return db_says(DB_BAD, "claims %u programs, more than %d", head.count, LEARN_PROGRAMS);
	at = head.version == 3 ? DB_HEADER3 : DB_HEADER;
	want = at + head.count * db_entry_size[head.version];
	if (size != want)
		return db_says(DB_BAD, "has %zu bytes, but %u programs take %zu", size, head.count, want);
	if (head.version == 3 && head.crc != db_file_crc(data, size))
		return db_says(DB_BAD, "is damaged: its checksum is wrong");
	t->saved_s = head.version == 3 ? head.saved_s : 0;
	for (i = 0; i < head.count; i++, at += db_entry_size[head.version]) {
		struct db_profile *p = &t->profile[i];

		if (head.version == 3)
			memcpy(p, data + at, sizeof(*p));
		if ((head.version < 3 && !db_from_old(p, data + at, head.version)) || !db_name_ok(p->key.comm) ||
		    p->zero[0] || p->zero[1] || p->zero[2] || p->zero2 || p->role >= ROLE_NR ||
		    p->role_votes > db_votes(p))
			return db_says(DB_BAD, "is damaged at entry %u", i);
		if (db_find(t, &p->key))
			return db_says(DB_BAD, "has %s twice", p->key.comm);
		t->count++;
	}
	t->version = head.version;
	return DB_OK;
}

/*
 * The table as a file; returns its size. V2 has neither all votes nor paths: what is not sure
 * would come back as certain, so it is left out, and of one name the most observed is taken.
 */
static size_t db_encode(u8 *data, struct db_table *t, u32 version)
{
	struct db_head head = { .magic = DB_MAGIC, .version = version, .saved_s = t->saved_s };
	size_t header = version == 3 ? DB_HEADER3 : DB_HEADER, size = header;
	struct db_profile *p, *end = t->profile + t->count, *best;
	struct db_old old;

	qsort(t->profile, t->count, sizeof(*p), db_compare);
	for (p = t->profile; p < end; p++) {
		best = p;
		while (version < 3 && p + 1 < end && !memcmp(p->key.comm, p[1].key.comm, sizeof(p->key.comm)))
			if ((++p)->observations > best->observations)
				best = p;
		if (version < 3 && db_confidence(best) < DB_CONFIDENCE)
			continue;
		old = db_to_old(best);
		memcpy(data + size, version == 3 ? (void *)best : &old, db_entry_size[version]);
		size += db_entry_size[version];
		head.count++;
	}
	memcpy(data, &head, header);
	if (version == 3) {
		head.crc = db_file_crc(data, size);
		memcpy(data, &head, header);
	}
	return size;
}

/* After a file was read: programs that nobody started for DB_DAYS are forgotten. */
static void db_age(struct db_table *t)
{
	u64 now = db_now(t);
	struct db_profile *p;
	u32 i;

	for (i = t->count; i--;) {
		p = &t->profile[i];
		if (!p->seen_s || p->seen_s > now)	/* 0 in V1 and V2; or a clock was ahead */
			p->seen_s = now;
		if (now - p->seen_s > DB_DAYS * 86400ULL)
			*p = t->profile[--t->count];
	}
}

/* All of an open file, or of a pipe. */
static enum db_result db_read_fd(int fd, struct db_table *t)
{
	enum db_result result;
	size_t size = 0;
	ssize_t n;

	while (size < sizeof(db.file) && (n = read(fd, db.file + size, sizeof(db.file) - size)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return db_says(DB_REFUSED, "cannot be read: %s", strerror(errno));
		size += n;
	}
	if (size == sizeof(db.file))
		return db_says(DB_BAD, "has more than %zu bytes", sizeof(db.file) - 1);
	result = db_decode(t, db.file, size);
	if (result == DB_OK)
		db_age(t);
	return result;
}

/* The database in a folder: only a plain file that nobody else could have written. */
static enum db_result db_read(int dir_fd, const char *name, struct db_table *t)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	enum db_result result;
	struct stat sb;

	memset(t, 0, sizeof(*t));
	if (fd < 0 && errno == ENOENT)
		return DB_NONE;
	if (fd < 0)
		return db_says(errno == EACCES ? DB_DENIED : DB_REFUSED, "cannot be opened: %s",
			       errno == ELOOP ? "it is a symbolic link" : strerror(errno));
	if (fstat(fd, &sb) || !S_ISREG(sb.st_mode))
		result = db_says(DB_REFUSED, "is no plain file");
	else if (sb.st_uid != geteuid() && sb.st_uid)
		result = db_says(DB_REFUSED, "belongs to user %u", sb.st_uid);
	else if (sb.st_mode & 022)
		result = db_says(DB_REFUSED, "may be written by others");
	else
		result = db_read_fd(fd, t);
	close(fd);
	return result;
}

/* The n-th folder where the database may lie; false: there is none. --db names the only one. */
static bool db_folder(u32 n, char *dir, size_t size)
{
	static const struct { const char *variable, *below; } places[DB_PLACES] = {
		{ "STATE_DIRECTORY", "" }, { NULL, "/var/lib/gamer" }, { "XDG_CACHE_HOME", "/gamer" },
		{ "HOME", "/.cache/gamer" },
	};
	const char *top = places[n].variable ? getenv(places[n].variable) ? : "" : "";

	db.name = db.wanted ? path_split(db.wanted, dir, size) : DB_NAME;
	if (db.wanted)
		return !n && db.name && *db.name;
	/* systemd may list several */
	return snprintf(dir, size, "%.*s%s", (int)(n ? strlen(top) : strcspn(top, ":")), top,
			places[n].below) < (int)size && *dir == '/' && (*top || !places[n].variable);
}

/*
 * Finds the folder of the database. `write`: a folder that can be written, which is made where it is
 * missing; else a folder that holds the file. False: there is none.
 */
static bool db_place(bool write)
{
	char dir[PATH_MAX];
	u32 n;

	for (n = 0; n < DB_PLACES; n++) {
		if (!db_folder(n, dir, sizeof(dir)))
			continue;
		if (write && !db.wanted)
			mkdir(dir, 0755);
		db.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (db.dir_fd < 0)
			continue;
		/* the folder is asked: the file may belong to somebody else, or not exist yet */
		if (write ? !faccessat(db.dir_fd, ".", W_OK | X_OK, AT_EACCESS) :
			    !faccessat(db.dir_fd, db.name, F_OK, AT_SYMLINK_NOFOLLOW)) {
			snprintf(db.path, sizeof(db.path), "%s%s%s", dir,
				 dir[strlen(dir) - 1] == '/' ? "" : "/", db.name);
			return db.kept = true;
		}
		close(db.dir_fd);
	}
	return false;
}

/* Writes the file, if there is a place for it. Returns 0 or an exit code, and then file_why says why. */
static int db_save(void)
{
	int code;

	db.saved_at_ns = now_ns();
	if (!db.kept)
		return 0;
	db.known.saved_s = db_now(&db.known);
	code = file_write(db.dir_fd, db.name, db.file, db_encode(db.file, &db.known, 3), true);
	if (!code)
		db.dirty = false;
	return code;
}

/* --- learning --- */

/*
 * Adds a program. Where the table is full, the program that was seen longest ago goes; of those, the
 * program with the fewest observations; of those, the first by name.
 */
static struct db_profile *db_add(const struct learn_key *key)
{
	struct db_table *t = &db.known;
	struct db_profile *p = t->profile, *i;

	if (t->count < LEARN_PROGRAMS) {
		p += t->count++;
	} else {
		for (i = p + 1; i < t->profile + t->count; i++)
			if (i->seen_s != p->seen_s ? i->seen_s < p->seen_s :
			    i->observations != p->observations ? i->observations < p->observations :
			    db_compare(i, p) < 0)
				p = i;
		if (st.skel)
			bpf_map_delete_elem(bpf_map__fd(st.skel->maps.predictions), &p->key);
	}
	*p = (struct db_profile){ .key = *key };
	return p;
}

/* Adds `n` to *sum, up to what *sum can hold. */
static void db_count(u32 *sum, u64 n)
{
	*sum = MIN(*sum + n, UINT32_MAX);
}

static u64 db_ewma(u64 avg, u64 sample)
{
	return (MIN(avg, 1ULL << 56) * 7 + MIN(sample, 1ULL << 56)) / 8;
}

static void db_merge_role(struct db_profile *p, const struct learn_sum *s)
{
	if (!s->role || s->role >= ROLE_NR)
		return;
	if (p->role == s->role) {
		db_count(&p->role_votes, s->role_votes);
	} else if (p->role_votes > s->role_votes) {
		p->role_votes -= s->role_votes;
	} else {
		p->role = s->role;
		p->role_votes = s->role_votes;
	}
}

/* Takes what BPF observed of a program; each observation moves the averages by one step. */
static struct db_profile *db_merge(const struct learn_key *key, const struct learn_sum *s)
{
	struct db_profile *p = db_find(&db.known, key);
	u32 i;

	if (!p) {
		p = db_add(key);
		p->burst_ns = s->burst_ns;
		p->dev_ns = s->dev_ns;
		p->wakeups_hz = s->wakeups_hz;
		p->switches_hz = s->switches_hz;
	}
	for (i = 0; i < s->count && i < DB_STEPS; i++) {
		u64 far = MAX(p->burst_ns, s->burst_ns) - MIN(p->burst_ns, s->burst_ns);

		p->dev_ns = db_ewma(p->dev_ns, MAX(far, s->dev_ns));
		p->burst_ns = db_ewma(p->burst_ns, s->burst_ns);
		p->wakeups_hz = db_ewma(p->wakeups_hz, s->wakeups_hz);
		p->switches_hz = db_ewma(p->switches_hz, s->switches_hz);
	}
	db_count(&p->observations, s->count);
	for (i = 0; i < TIER_NR; i++)
		db_count(&p->votes[i], s->votes[i]);
	db_merge_role(p, s);
	while (db_votes(p) > DB_VOTES) {
		for (i = 0; i < TIER_NR; i++)
			p->votes[i] /= 2;
		p->role_votes /= 2;
	}
	p->role_votes = MIN(p->role_votes, db_votes(p));
	p->seen_s = db_now(&db.known);
	return p;
}

/* Tells BPF how the program's next task begins, or that no prediction is sure enough any more. */
static void db_foretell(const struct db_profile *p)
{
	int fd = bpf_map__fd(st.skel->maps.predictions);
	struct prediction to;

	if (!db_predict(p, &to)) {
		bpf_map_delete_elem(fd, &p->key);
		return;
	}
	bpf_map_update_elem(fd, &p->key, &to, BPF_ANY);
	if (!p->key.exe)
		st.skel->bss->predict_any = 1;
}

/*
 * Takes what BPF has observed. On a busy disk fsync may take long, and meanwhile the loop finds no
 * game: so the file is written now and then, but not while somebody plays.
 */
static void db_drain(void)
{
	static struct learn_key keys[LEARN_SUMS];
	static struct learn_sum sums[LEARN_SUMS];
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	u32 count = LEARN_SUMS, next, i;
	u64 start;
	int err;

	err = bpf_map_lookup_and_delete_batch(bpf_map__fd(st.skel->maps.learn_sums), NULL, &next,
					      keys, sums, &count, &opts);
	if (err && err != -ENOENT)
		return;
	start = now_ns();
	for (i = 0; i < count; i++)
		if (sums[i].count && db_name_ok(keys[i].comm))
			db_foretell(db_merge(&keys[i], &sums[i]));
	db.merge_us = MAX(db.merge_us, (now_ns() - start) / NSEC_PER_USEC);
	db.dirty |= count > 0;
	if (db.dirty && !st.skel->bss->game_tgid && now_ns() - db.saved_at_ns > DB_SAVE_NS && db_save())
		note("cannot write %s: %s", db.path, file_why);
}

static void db_close(void)
{
	close(db.dir_fd);
	db.kept = false;
}

/* A bad file is renamed, so that somebody can find out what made it bad. */
static void db_keep_bad(void)
{
	char bad[NAME_MAX + 8];
	mode_t mode;

	snprintf(bad, sizeof(bad), "%s.bad", db.name);
	note("%s %s: the file is kept as %s, and a new one is begun", db.path, db_why, bad);
	if (file_check(db.dir_fd, bad, &mode) ||
	    (renameat(db.dir_fd, db.name, db.dir_fd, bad) && file_fails(EX_IOERR, strerror(errno)))) {
		note("%s cannot be renamed (%s): what is learned stays in memory", db.path, file_why);
		db_close();
	}
}

/* Once, before anything is attached. Whatever is wrong, scheduling starts. */
static void db_open(void)
{
	db.wanted = args.run.db;
	if (st.observing || (db.wanted && !*db.wanted))
		return;
	if (!db_place(true)) {
		note("no folder for the process database can be written: what is learned stays in memory");
		return;
	}
	if (flock(db.dir_fd, LOCK_EX | LOCK_NB)) {
		note("another gamer uses %s: what is learned stays in memory", db.path);
		db_close();
		return;
	}
	switch (db_read(db.dir_fd, db.name, &db.known)) {
	case DB_OK:
	case DB_NONE:
		break;
	case DB_BAD:
		db.known.count = 0;
		db_keep_bad();
		break;
	default:
		note("%s %s: what is learned stays in memory", db.path, db_why);
		db_close();
	}
	db.saved_at_ns = now_ns();
}

/* Before each unload. */
static void db_from_bpf(void)
{
	if (st.skel->rodata->learning)
		db_drain();
	if (db.dirty && db_save())
		note("cannot write %s: %s", db.path, file_why);
}

/* ======== 11. rings ================================================================= */

/*
 * Rings are read without libbpf: it allocates for each, and would keep all of them mapped, which
 * are 1.2 MB of resident memory, while nobody listens.
 */
static const struct bpf_map *ring_map(enum event_type type)
{
#define RING_MAP(id, name, kib, frequent) st.skel->maps.name##_ring,
	const struct bpf_map *const maps[] = { EVENTS(RING_MAP) };

	return maps[type];
}

/* Map a ring and leave aside what was written before. False: no memory. */
static bool ring_open(enum event_type type)
{
	struct ring *r = &st.rings[type];
	size_t page = getpagesize();
	int fd = bpf_map__fd(ring_map(type));
	void *ours, *theirs;

	CERTAIN(type < EVENT_NR);
	r->size = bpf_map__max_entries(ring_map(type));
	ours = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ours == MAP_FAILED)
		return false;
	theirs = mmap(NULL, page + 2 * r->size, PROT_READ, MAP_SHARED, fd, page);
	if (theirs == MAP_FAILED) {
		munmap(ours, page);
		return false;
	}
	r->taken = ours;
	r->written = theirs;
	r->data = (char *)theirs + page;
	__atomic_store_n(r->taken, __atomic_load_n(r->written, __ATOMIC_ACQUIRE), __ATOMIC_SEQ_CST);
	return true;
}

static void ring_close(enum event_type type)
{
	struct ring *r = &st.rings[type];
	size_t page = getpagesize();

	if (!r->taken)
		return;
	munmap(r->taken, page);
	munmap((void *)r->written, page + 2 * r->size);
	r->taken = NULL;
}

/* The kernel may write over what was read. It sees this before we look whether there is more. */
static void ring_release(struct ring *r, u32 *held)
{
	if (*held && r->taken)
		__atomic_store_n(r->taken, *r->taken + *held, __ATOMIC_SEQ_CST);
	*held = 0;
}

/*
 * The next record, or NULL. What the kernel marks as busy is being written; what it marks as
 * discarded is skipped. The record may be used until the next call or ring_release().
 * The kernel wakes us only for a record at the very place up to which we have released.
 */
static const void *ring_next(struct ring *r, u32 *held, u32 *len)
{
	const u32 *head;
	u32 flags;
	u64 at;

	for (;;) {
		ring_release(r, held);
		at = *r->taken;
		if (at == __atomic_load_n(r->written, __ATOMIC_SEQ_CST))
			return NULL;
		head = (const u32 *)(r->data + (at & (r->size - 1)));
		flags = __atomic_load_n(head, __ATOMIC_ACQUIRE);
		if (flags & BPF_RINGBUF_BUSY_BIT)
			return NULL;
		*len = flags & ~BPF_RINGBUF_DISCARD_BIT;
		*held = (*len + BPF_RINGBUF_HDR_SZ + 7) & ~7U;
		if (!(flags & BPF_RINGBUF_DISCARD_BIT))
			return (const char *)head + BPF_RINGBUF_HDR_SZ;
	}
}

/* ======== 12. load and attach ======================================================= */

#define SCX_LOOK_MS	4000

/*
 * Has the kernel ended the scheduler? BPF writes why. What BPF writes may be lost, so the kernel's
 * file is read every SCX_LOOK_MS besides, and status tells the truth.
 */
static void scx_look(void)
{
	u64 now = now_ns();
	char state[32];

	if (__atomic_load_n(&st.skel->bss->scx_end.written, __ATOMIC_ACQUIRE)) {
		st.end = st.skel->bss->scx_end;
		st.exited = true;
	} else if (st.link && now - st.scx_looked_ns >= SCX_LOOK_MS * NSEC_PER_MSEC) {
		st.scx_looked_ns = now;
		/* where gamer has no descriptor left, for instance, the file tells nothing */
		if (read_file(state, sizeof(state), SCX_DIR "state") > 0 && !strcmp(state, "disabled")) {
			st.end = (struct scx_end){ .reason = "the kernel does not say why" };
			st.exited = true;
		}
	}
}

static void bpf_unload(void)
{
	int i;

	st.attached = false;
	for (i = 0; i < PROG_NR; i++) {
		bpf_link__destroy(st.prog_links[i]);
		st.prog_links[i] = NULL;
	}
	for (i = 0; i < EVENT_NR; i++)
		ring_close(i);
	if (st.run_fd > 0)
		close(st.run_fd);
	st.run_fd = 0;
	bpf_link__destroy(st.threads_link);
	/*
	 * A child that was just forked still holds the link, and the kernel (6.18) ends whichever
	 * scheduler is attached when the last holder closes it: by then that may be our next one.
	 */
	if (st.link)
		bpf_link__detach(st.link);
	bpf_link__destroy(st.link);
	gamer_bpf__destroy(st.skel);
	st.threads_link = NULL;
	st.link = NULL;
	st.skel = NULL;
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
#define THREAD_NAME(name, role) { name, ROLE_##role },
	static const struct { const char *name; u8 role; } threads[] = { THREAD_NAMES(THREAD_NAME) };
#define WORD_OF(name, ...) name,
	static const char *const programs[] = { PROGRAM_NAMES(WORD_OF) }, *const vars[] = { ENV_NAMES(WORD_OF) };
	u32 i;

	_Static_assert(ARRAY_SIZE(threads) <= THREAD_NAME_MAX, "room for thread names");
	_Static_assert(ARRAY_SIZE(programs) <= PROGRAM_NAME_MAX, "room for program names");
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		skel->rodata->thread_names[i] = prefix_of(threads[i].name);
		skel->rodata->thread_name_roles[i] = threads[i].role;
	}
	for (i = 0; i < ARRAY_SIZE(programs); i++)
		skel->rodata->program_names[i] = prefix_of(programs[i]);
	_Static_assert(ARRAY_SIZE(vars) <= ENV_NAME_MAX, "room for variables");
	for (i = 0; i < ARRAY_SIZE(vars); i++)
		skel->rodata->env_names[i] = prefix_of(vars[i]);
}

/*
 * A map takes its memory when it is created. So the profiler creates only its own maps (prof_...),
 * and a scheduler only the others.
 */
static void bpf_configure_maps(struct gamer_bpf *skel, bool profiler)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, skel->obj)
		if (!bpf_map__is_internal(map) && !strncmp(bpf_map__name(map), "prof_", 5) != profiler)
			bpf_map__set_autocreate(map, false);
}

/* What only a scheduler has: without one its programs and maps are left out. */
static void bpf_configure_sched(struct gamer_bpf *skel)
{
	struct bpf_program *prog;

	if (st.observing) {
		bpf_map__set_autocreate(skel->maps.gamer_ops, false);
		bpf_map__set_autocreate(skel->maps.cgroup_weights, false);
		bpf_object__for_each_program(prog, skel->obj)
			if (bpf_program__type(prog) == BPF_PROG_TYPE_STRUCT_OPS)
				bpf_program__set_autoload(prog, false);
		return;
	}
	skel->rodata->learning = !st.hook_why[HOOK_GAME];
	if (!skel->rodata->learning) {
		skel->struct_ops.gamer_ops->exit_task = NULL;
		note("gamer learns nothing, for no hook tells of programs that start (hook game)");
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
		st.kernel_const[KCONST_SCX_OPS_ENQ_EXITING] | st.kernel_const[KCONST_SCX_OPS_ENQ_MIGRATION_DISABLED];
	skel->rodata->have_kick = !st.hook_why[HOOK_KICK];
	skel->rodata->game_weight_recip = 1024 / args.run.game_weight;
	skel->rodata->have_peek = !st.hook_why[HOOK_PEEK];
	skel->rodata->perf_control = !st.hook_why[HOOK_CPUPERF] &&
				     (st.tests & 1U << TEST_PERF ||
				      !access("/sys/devices/system/cpu/cpu0/cpufreq", F_OK));
	/* The kernel refuses to attach where CPUs came or went since this was read. */
	skel->struct_ops.gamer_ops->hotplug_seq = read_num(0, SCX_DIR "hotplug_seq");
}

/* Before the object is loaded, its constants are set by what the kernel offers and which hooks are chosen. */
static void bpf_configure(struct gamer_bpf *skel)
{
	u32 i;

#define KCONST_SET(name, type, required) skel->rodata->k_##name = st.kernel_const[KCONST_##name];
	KERNEL_CONSTS(KCONST_SET)
	bpf_configure_maps(skel, false);
	bpf_configure_sched(skel);
	bpf_configure_names(skel);
	skel->rodata->tests = st.tests;
	skel->rodata->observing = st.observing;
	skel->rodata->advising = st.fair;
	skel->rodata->realtime_ns = st.fair_realtime ? REALTIME_NS : 0;
	skel->rodata->irq_mask = st.hook_why[HOOK_IRQ] ? 0 : st.irq_mask;
	skel->rodata->irq_from_rq = st.irq_from_rq;
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

/* The BPF object, which the Makefile packs: unpacked it would be a third of the binary. */
extern const u8 bpf_packed[], bpf_packed_end[];
asm(".section .rodata\n"
    "bpf_packed: .incbin \"" BPF_PACKED "\"\n"
    "bpf_packed_end:\n"
    ".previous");

/* Unpacks the object into new memory, which the caller frees; NULL: there is no memory. */
static char *bpf_unpack(size_t *size)
{
	size_t packed = (uintptr_t)bpf_packed_end - (uintptr_t)bpf_packed;
	z_stream z = { .next_in = (u8 *)bpf_packed, .avail_in = packed };
	u32 len;
	char *to;

	memcpy(&len, bpf_packed + packed - 4, 4);	/* gzip ends with the length, little-endian */
	to = malloc(len);
	z.next_out = (u8 *)to;
	z.avail_out = len;
	if (!to || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK || inflate(&z, Z_FINISH) != Z_STREAM_END) {
		free(to);
		to = NULL;
	}
	inflateEnd(&z);
	*size = len;
	return to;
}

#define BPF_LOG_STATS	4	/* of the kernel's verifier: one line, no trace */

/*
 * Kernels verify a global function once, by what its arguments are marked with. Those before 6.9 do not know
 * the marks and would refuse the function: for them all functions are static, and verified at each call.
 */
static void bpf_inline_funcs(struct btf *btf)
{
	struct btf_type *t;
	u32 i;

	for (i = 1; i < btf__type_cnt(btf); i++) {
		t = (struct btf_type *)btf__type_by_id(btf, i);
		if (btf_is_func(t) && btf_vlen(t) == BTF_FUNC_GLOBAL)
			t->info = BTF_KIND_FUNC << 24 | BTF_FUNC_STATIC;
	}
}

/*
 * Open the object; `cost`: the verifier tells what it took. *copy must live until the load is
 * over. Without the preemption counter where programs cannot use it: a weak symbol that BTF shows
 * and the kernel cannot resolve fails the load even in code that never runs. So its name is spoilt
 * in the copy, and it counts as absent.
 */
static struct gamer_bpf *bpf_open(char **copy, bool cost)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .kernel_log_level = cost ? BPF_LOG_STATS : 0);
	static const char *const names[] = { "__preempt_count", "pcpu_hot" };
	struct gamer_bpf *skel = calloc(1, sizeof(*skel));
	size_t size;
	char *at;
	u32 i;

	*copy = bpf_unpack(&size);
	if (!skel || !*copy || gamer_bpf__create_skeleton(skel)) {
		free(skel);
		return NULL;
	}
	for (i = 0; (st.hook_why[HOOK_IRQ] || st.irq_from_rq) && i < ARRAY_SIZE(names); i++)
		for (at = *copy; (at = memmem(at, *copy + size - at, names[i], strlen(names[i]) + 1)); at++)
			*at = 'X';
	skel->skeleton->data = *copy;
	skel->skeleton->data_sz = size;
	if (bpf_object__open_skeleton(skel->skeleton, &opts))
		return NULL;
	skel->struct_ops.gamer_ops = bpf_map__initial_value(skel->maps.gamer_ops, NULL);
	if (st.inline_funcs)
		bpf_inline_funcs(bpf_object__btf(skel->obj));
	return skel;
}

/*
 * A scheduler's storage of tasks and cgroups outlives its restarts: the next scheduler takes the maps over, and
 * gamer_init_task() clears what belonged to the last one. Kernels 6.14 to 6.19 free such a map with migration
 * disabled, and wait there for RCU, which waits for CPU hotplug, which waits for migration on the CPU that goes. So
 * where one CPU ended the scheduler, the next would stop the machine.
 */
static void storage_keep(struct gamer_bpf *skel, bool loaded)
{
	static int kept[8];		/* descriptors in the order of the maps, 0: none */
	struct bpf_map *map;
	size_t n = 0;
	int *fd;

	if (st.observing)		/* no CPU that goes ends it */
		return;
	bpf_object__for_each_map(map, skel->obj) {
		if ((bpf_map__type(map) != BPF_MAP_TYPE_TASK_STORAGE &&
		     bpf_map__type(map) != BPF_MAP_TYPE_CGRP_STORAGE) || n == ARRAY_SIZE(kept))
			continue;
		fd = &kept[n++];
		if (!bpf_map__autocreate(map))
			continue;
		if (loaded && *fd <= 0)
			*fd = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 1);
		else if (!loaded && *fd > 0)
			bpf_map__reuse_fd(map, *fd);
	}
}

/* Open and verify once. 0, or -errno; st.refused names an optional program that is to blame. */
static int bpf_try_load(void)
{
	static bool refused;	/* the kernel says what a program costs, or why it is refused */
	char *copy;
	int err;

	st.refused = NULL;
	st.skel = bpf_open(&copy, st.verbose && !refused);
	if (!st.skel)
		die(EX_SOFTWARE, "cannot open the BPF object: %s", strerror(errno));
	bpf_configure(st.skel);
	storage_keep(st.skel, false);
	err = gamer_bpf__load(st.skel);
	free(copy);
	if (!err) {
		storage_keep(st.skel, true);
		return 0;
	}
	gamer_bpf__destroy(st.skel);
	st.skel = NULL;
	if (!st.verbose || refused)
		return err;
	refused = true;
	return bpf_try_load();
}

/* Open, verify and prepare; dies with the exit code that fits. */
static void bpf_load(void)
{
	u64 start = now_ns();
	int err;

	while ((err = bpf_try_load()) && st.refused)
		prog_drop(st.refused - progs, "the kernel refused it");
	/* the verifier's no is often EACCES too: does the kernel take the shortest program? */
	if ((err == -EPERM || err == -EACCES) && prog_try(insns_none, ARRAY_SIZE(insns_none)))
		die(EX_NOPERM, "the kernel lets gamer load no BPF programs (a container or a security module?)");
	if (err)
		die(EX_SOFTWARE, "the kernel refused the BPF programs: %s (gamer run -v shows why)", strerror(-err));
	power_apply();
	if (!ring_open(EVENT_GAME))
		die(EX_SOFTWARE, "cannot map the event ring: %s", strerror(errno));
	st.load_us = (now_ns() - start) / NSEC_PER_USEC;
}

/* Attach the optional programs; one that fails is left out. Uprobes wait for their program. */
static void hooks_attach(void)
{
	struct bpf_program *prog;
	const char *at;
	char name[64];
	int n;
	u32 i;

	for (i = 0; i < PROG_NR; i++) {
		prog = bpf_object__find_program_by_name(st.skel->obj, progs[i].name);
		if (!bpf_program__autoload(prog) || progs[i].kind == PROG_UPROBE)
			continue;
		if (progs[i].kind != PROG_KRETPROBE)
			st.prog_links[i] = bpf_program__attach(prog);
		for (at = progs[i].target; progs[i].kind == PROG_KRETPROBE && !st.prog_links[i] &&
		     sscanf(at, "%63s%n", name, &n) == 1; at += n)
			st.prog_links[i] = bpf_program__attach_kprobe(prog, true, name);
		if (!st.prog_links[i])
			prog_drop(i, "could not be attached");
	}
	st.threads_link = bpf_program__attach_iter(st.skel->progs.threads, NULL);
	if (!st.threads_link)
		note("threads cannot be listed, for the kernel attaches no iterator: %s", strerror(errno));
}

/* Returns 0, or -errno where the kernel did not let us attach. */
static int bpf_attach(void)
{
	u64 start = now_ns();
	char name[128];

	st.exited = false;
	if (!st.observing) {
		st.link = bpf_map__attach_struct_ops(st.skel->maps.gamer_ops);
		if (!st.link) {
			int err = errno;

			if (err == EBUSY && scx_attached(name, sizeof(name)))
				die(EX_TEMPFAIL, "scheduler '%s' is attached", name);
			if (err == EINVAL && scx_isolated())
				die(EX_UNAVAILABLE, "cannot schedule: %s", scx_isolated());
			return -err;
		}
	}
	hooks_attach();
	st.attach_at_ns = now_ns();
	st.attach_us = (st.attach_at_ns - start) / NSEC_PER_USEC;
	return 0;
}

/* The sum over all CPUs of the u64 at this offset of struct cpu_state. */
static u64 cpu_sum(size_t at)
{
	u64 sum = 0;
	u32 cpu;

	for (cpu = 0; cpu < topo.nr_cpus; cpu++)
		sum += *(u64 *)((char *)&st.skel->bss_cpus->cpu_states[cpu] + at);
	return sum;
}

/*
 * Calls `fn` for every thread that belongs to the game or serves it. The iterator settles the role of each thread
 * that it meets, so a call without `fn` (NULL) gives all threads of a new game their roles at once.
 */
static void threads_each(void (*fn)(const struct thread_row *row, void *ctx), void *ctx)
{
	static struct thread_row rows[64];
	int fd = st.threads_link ? bpf_iter_create(bpf_link__fd(st.threads_link)) : -1;
	const struct thread_row *row;
	ssize_t n;

	/* whole rows: the kernel gathers whole ones, and there is room for whole ones */
	while (fd >= 0 && (n = read(fd, rows, sizeof(rows))) > 0)
		for (row = rows; fn && row < rows + n / sizeof(*row); row++)
			fn(row, ctx);
	fd_close(fd);
}

/* ======== 13. child processes ======================================================= */

/*
 * Children do what may never come to an end: they read other processes' memory and files, and put
 * uprobes on files that others map. The loop asks by a message, is answered by a message, and
 * waits for nothing; a child that hangs is left behind. A child holds no file but its socket, so
 * that nothing stays attached or locked because of one that cannot be killed.
 */
struct child {
	s32 pid;		/* 0: none runs */
	int fd;			/* the socket, in the epoll set */
};

static struct children {
	u32 lost;		/* left behind and not yet reaped; child_leave(), children_reap() */
	s32 unprobing;		/* left behind while it takes its uprobes away, 0: none; the same */
	bool refused;		/* the kernel let none start, which has been said; child_start() */
} children;

static bool child_start(struct child *c, u64 event, u64 capabilities, void (*work)(int sock))
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return false;
	c->pid = fork();
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		syscall(SYS_close_range, 0, pair[1] - 1, 0);
		syscall(SYS_close_range, pair[1] + 1, ~0U, 0);
		caps_set(capabilities, capabilities);
		work(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	if (c->pid < 0) {
		if (!children.refused)
			note("no child can be started to look at other processes (fork: %s): gamer tries again",
			     strerror(errno));
		children.refused = true;
		c->pid = 0;
		close(pair[0]);
		return false;
	}
	children.refused = false;
	c->fd = pair[0];
	loop_add(c->fd, event, EPOLLIN);
	return true;
}

/* End a child. A child that the kernel holds for good does not even take SIGKILL: it is left behind. */
static void child_leave(struct child *c, bool reaped)
{
	if (!c->pid)
		return;
	close(c->fd);
	if (!reaped) {
		kill(c->pid, SIGKILL);
		children.lost++;
	}
	c->pid = 0;
}

/* ======== 14. wine ================================================================== */

/*
 * Windows programs tell the importance of their threads by two system calls of Wine's
 * ntdll.so. Each build of Wine brings its own, so the uprobes go to the file that a Windows
 * program has mapped: that of the first helper process of Wine, since a game tells within
 * 100 ms of its start. They stay until the last such process ends, and on the distribution's
 * own file always. All files here belong to users: what is read may be broken, hostile, or
 * change under us, hence pread() and no mapping.
 */

#define WINE_FILES	8	/* the distribution's and the game's own */
#define ELF_CODE	4	/* segments of code; linkers make one */
#define ELF_SYMBOLS	65536	/* more than any ntdll.so has; bounds the time for a hostile one */

/* Rows of the table of programs: what goes on which function. */
static const u8 wine_progs[] = { PROG_wine_set_thread, PROG_wine_set_process };

/* Places of the distribution's own, whether a game runs or not. */
static const char *const wine_dirs[] = {
	"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/opt/wine-stable/lib64", "/opt/wine-staging/lib64",
	"/opt/wine-devel/lib64", "/opt/wine-stable/lib", "/opt/wine-staging/lib", "/opt/wine-devel/lib",
};

/* What was read of an ntdll.so; its file goes along. */
struct wine_facts {
	u64 dev, ino;			/* by fstat() */
	u64 at[ARRAY_SIZE(wine_progs)];	/* file offset of each function, 0: it has none */
};

/* One ntdll.so. The attached uprobes pin it, so its inode cannot come to mean another. */
static struct wine_file {
	u64 dev, ino;			/* wine_attach() */
	u32 users;			/* processes, and gamer for the distribution's; 0: free;
					 * wine_attach(), slot_free() */
	bool attached;			/* the child said so; wine_take() */
} wine_files[WINE_FILES];

static bool elf_read(int fd, void *to, size_t size, u64 at)
{
	return pread(fd, to, size, at) == (ssize_t)size;
}

/*
 * An ELF file of either class; each structure is handed on in its 64-bit form. gamer reads these
 * itself: libelf takes memory for all that a header claims, and unpacks what is packed.
 */
struct elf_file {
	int fd;
	bool wide;		/* 64-bit */
	Elf64_Ehdr eh;
	Elf64_Phdr code[ELF_CODE];	/* its loadable segments of code; elf_open() */
	u32 nr_code;
};

/* One of at most 65535; false: the file has no more. */
static bool elf_section(const struct elf_file *f, u32 i, Elf64_Shdr *to)
{
	size_t size = f->wide ? sizeof(*to) : sizeof(Elf32_Shdr);
	Elf32_Shdr s;

	if (i >= f->eh.e_shnum || f->eh.e_shentsize != size ||
	    !elf_read(f->fd, f->wide ? (void *)to : &s, size, f->eh.e_shoff + i * size))
		return false;
	if (!f->wide)
		*to = (Elf64_Shdr){ .sh_type = s.sh_type, .sh_flags = s.sh_flags,
				    .sh_link = s.sh_link, .sh_offset = s.sh_offset, .sh_size = s.sh_size };
	return true;
}

static bool elf_segment(const struct elf_file *f, u32 i, Elf64_Phdr *to)
{
	size_t size = f->wide ? sizeof(*to) : sizeof(Elf32_Phdr);
	Elf32_Phdr p;

	if (i >= f->eh.e_phnum || f->eh.e_phentsize != size ||
	    !elf_read(f->fd, f->wide ? (void *)to : &p, size, f->eh.e_phoff + i * size))
		return false;
	if (!f->wide)
		*to = (Elf64_Phdr){ .p_type = p.p_type, .p_flags = p.p_flags,
				    .p_offset = p.p_offset, .p_vaddr = p.p_vaddr, .p_filesz = p.p_filesz };
	return true;
}

/* The first section of a type; false: there is none. */
static bool elf_find(const struct elf_file *f, u32 type, Elf64_Shdr *to)
{
	u32 i;

	for (i = 0; elf_section(f, i, to); i++)
		if (to->sh_type == type)
			return true;
	return false;
}

static bool elf_open(struct elf_file *f, int fd)
{
	Elf32_Ehdr e;
	u32 i;

	*f = (struct elf_file){ .fd = fd };
	if (!elf_read(fd, &e, sizeof(e), 0) || memcmp(e.e_ident, ELFMAG, SELFMAG) || e.e_ident[EI_DATA] != ELFDATA2LSB)
		return false;
	f->wide = e.e_ident[EI_CLASS] == ELFCLASS64;
	if (f->wide ? !elf_read(fd, &f->eh, sizeof(f->eh), 0) : e.e_ident[EI_CLASS] != ELFCLASS32)
		return false;
	if (!f->wide)
		f->eh = (Elf64_Ehdr){
			.e_machine = e.e_machine, .e_phoff = e.e_phoff, .e_phnum = e.e_phnum,
			.e_phentsize = e.e_phentsize, .e_shoff = e.e_shoff, .e_shnum = e.e_shnum,
			.e_shentsize = e.e_shentsize,
		};
	for (i = 0; f->nr_code < ELF_CODE && elf_segment(f, i, &f->code[f->nr_code]); i++)
		f->nr_code += f->code[f->nr_code].p_type == PT_LOAD && f->code[f->nr_code].p_flags & PF_X;
	return true;
}

/*
 * Hands the symbols of a table to each(), with the place of the name in the file, until that
 * returns false. Returns false: there are more than `max`, or the file is broken.
 */
static bool elf_symbols(const struct elf_file *f, const Elf64_Shdr *table, u64 max, void *ctx,
			bool (*each)(void *ctx, const Elf64_Sym *sym, u64 name_at))
{
	union { Elf64_Sym wide[128]; Elf32_Sym narrow[128]; } part;
	size_t size = f->wide ? sizeof(*part.wide) : sizeof(*part.narrow);
	u64 n = table->sh_size / size, i;
	Elf64_Shdr names;
	Elf64_Sym sym;

	if (!elf_section(f, table->sh_link, &names) || (table->sh_flags | names.sh_flags) & SHF_COMPRESSED)
		return false;
	for (i = 0; i < MIN(n, max); i++) {
		const Elf32_Sym *s = &part.narrow[i % 128];

		if (i % 128 == 0 && !elf_read(f->fd, &part, MIN(n - i, 128) * size, table->sh_offset + i * size))
			return false;
		sym = f->wide ? part.wide[i % 128] :
		      (Elf64_Sym){ .st_name = s->st_name, .st_info = s->st_info,
				   .st_shndx = s->st_shndx, .st_value = s->st_value,
				   .st_size = s->st_size };
		if (sym.st_name && sym.st_name < names.sh_size && !each(ctx, &sym, names.sh_offset + sym.st_name))
			return true;
	}
	return n <= max;
}

/* File offset of an address of the program; 0: the address is in no segment that holds code. */
static u64 elf_offset(const struct elf_file *f, u64 addr)
{
	const Elf64_Phdr *ph;

	for (ph = f->code; ph < f->code + f->nr_code; ph++)
		if (addr >= ph->p_vaddr && addr - ph->p_vaddr < ph->p_filesz)
			return addr - ph->p_vaddr + ph->p_offset;
	return 0;
}

/* A function that is looked for by its name. */
struct elf_wanted {
	const struct elf_file *file;
	const char *name;
	u64 offset;		/* in the file; 0: not found; elf_is_wanted() */
};

static bool elf_is_wanted(void *ctx, const Elf64_Sym *sym, u64 name_at)
{
	struct elf_wanted *w = ctx;
	size_t len = strlen(w->name) + 1;
	char found[32];

	if (ELF64_ST_TYPE(sym->st_info) != STT_FUNC || sym->st_shndx == SHN_UNDEF ||
	    len > sizeof(found) || !elf_read(w->file->fd, found, len, name_at) || memcmp(found, w->name, len))
		return true;
	w->offset = elf_offset(w->file, sym->st_value);
	return false;
}

/* File offset of a function that a 64-bit shared object exports; 0: it does not. */
static u64 elf_function(int fd, const char *name)
{
	struct elf_file f;
	struct elf_wanted w = { .file = &f, .name = name };
	Elf64_Shdr sh;

	if (elf_open(&f, fd) && f.wide && f.eh.e_machine == EM_X86_64 && elf_find(&f, SHT_DYNSYM, &sh))
		elf_symbols(&f, &sh, ELF_SYMBOLS, &w, elf_is_wanted);
	return w.offset;
}

/*
 * An open ntdll.so, or -1. Nothing is opened before it is known to be a file: a name may lead to
 * a device. A file system that another program or machine serves may not answer just when the
 * kernel installs a uprobe, and in that time no process of the whole machine can fork; the files
 * of an overlay may lie on one of those, unless the administrator named the place.
 */
static int wine_open(const char *path, bool named)
{
	static const u32 served[] = {
		0x65735546 /* FUSE */, 0x6969 /* NFS */, 0x517b /* SMB */, 0xff534d42 /* CIFS */,
		0xfe534d42 /* SMB2 */, 0x01021997 /* 9P */, 0x00c36400 /* Ceph */,
		0x5346414f /* AFS */, 0x6b414653 /* kAFS */, 0x794c7630 /* overlay: the last */
	};
	struct stat s;
	struct statfs fs;
	int at = open_checked(NULL, path, 0, &s), fd = -1;
	size_t i;

	if (at >= 0 && !fstatfs(at, &fs)) {
		for (i = 0; i < ARRAY_SIZE(served) - named && served[i] != (u32)fs.f_type; i++)
			;
		if (i == ARRAY_SIZE(served) - named)
			fd = file_reopen(at);
	}
	fd_close(at);
	return fd;
}

/* In the child that reads: an open file with such functions, or -1. */
static int wine_read(const char *path, bool named, struct wine_facts *f)
{
	int fd = wine_open(path, named);
	struct stat s;
	size_t i;

	if (fd < 0)
		return -1;
	for (i = 0; i < ARRAY_SIZE(wine_progs); i++)
		f->at[i] = elf_function(fd, progs[wine_progs[i]].target);
	if ((!f->at[0] && !f->at[1]) || fstat(fd, &s)) {
		close(fd);
		return -1;
	}
	f->dev = s.st_dev;
	f->ino = s.st_ino;
	return fd;
}

/*
 * To attach and to detach a uprobe, the kernel locks the address space of each process that maps
 * the file, and waits where one is locked already: a child does that, holds the uprobes, and
 * takes them away when it ends.
 */
struct wine_order {
	u32 file;			/* row of wine_files */
	s32 error;			/* of the answer: errno, 0: has uprobes or needs none */
	u64 at[ARRAY_SIZE(wine_progs)];	/* where to attach; all 0: detach */
};

static struct wine {
	struct child child;
	u32 pending;			/* orders without an answer; wine_send(), wine_take() */
	bool told;			/* that one hangs; game_looks() */
	bool ended;			/* the child did, by itself; wine_ended() */
	u64 since_ns;			/* when the oldest of them was sent, at the latest; the same */
} wine;

/* A uprobe at that place of an open file, for whoever maps it; its link or -errno. */
static int wine_probe(int fd, unsigned long at, int prog)
{
	char path[32];
	LIBBPF_OPTS(bpf_link_create_opts, opts, .uprobe_multi = { .path = path, .offsets = &at, .cnt = 1 });

	/* not by name: what was read is what gets the probe */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return bpf_link_create(prog, 0, BPF_TRACE_UPROBE_MULTI, &opts);
}

/* The child. With an order to attach come the ntdll.so and the programs. */
static void wine_work(int sock)
{
	static int links[WINE_FILES][ARRAY_SIZE(wine_progs)];
	int fds[MESSAGE_FILES], link;
	struct wine_order o;
	size_t i;

	while (message_receive(sock, &o, sizeof(o), fds, 0) == sizeof(o)) {
		o.error = 0;
		for (i = 0; i < ARRAY_SIZE(wine_progs); i++) {
			/* no link is 0, where the first file of an order lies */
			if (links[o.file][i])
				close(links[o.file][i]);
			link = o.at[i] ? wine_probe(fds[0], o.at[i], fds[1 + i]) : 0;
			links[o.file][i] = MAX(link, 0);
			o.error = MIN(link, o.error);
		}
		for (i = 0; i < MESSAGE_FILES; i++)
			fd_close(fds[i]);
		if (!message_send(sock, &o, sizeof(o), NULL, 0, 0))
			return;
	}
}

static void wine_send(struct wine_file *f, int fd, const u64 at[ARRAY_SIZE(wine_progs)])
{
	const int fds[MESSAGE_FILES] = {
		fd, bpf_program__fd(st.skel->progs.wine_set_thread),
		bpf_program__fd(st.skel->progs.wine_set_process),
	};
	struct wine_order o = { .file = f - wine_files };

	f->attached = false;
	if (at)
		memcpy(o.at, at, sizeof(o.at));
	if (!wine.child.pid || !message_send(wine.child.fd, &o, sizeof(o), fds, at ? MESSAGE_FILES : 0, MSG_DONTWAIT))
		return;
	if (!wine.pending++)
		wine.since_ns = now_ns();
}

/* Ends the child, which takes its uprobes away. Until it has, a process that forks may have to wait. */
static void wine_leave(bool reaped)
{
	if (wine.child.pid && !reaped)
		children.unprobing = wine.child.pid;
	child_leave(&wine.child, reaped);
	wine.pending = 0;
}

static void wine_ended(bool reaped)
{
	size_t i;

	note("wine: the child that held the uprobes on ntdll.so has ended: priorities that Windows "
	     "programs set are seen no more");
	for (i = 0; i < WINE_FILES; i++)
		wine_files[i].attached = false;
	wine_leave(reaped);
	wine.ended = true;
}

static void wine_take(void)
{
	int fds[MESSAGE_FILES];
	struct wine_order o;
	struct wine_file *f;
	ssize_t n;

	if (!wine.child.pid)
		return;
	n = message_receive(wine.child.fd, &o, sizeof(o), fds, MSG_DONTWAIT);
	if (n == sizeof(o)) {
		f = &wine_files[o.file % WINE_FILES];
		f->attached = f->users && !o.error;
		if (o.error)
			note("wine: the kernel puts no uprobe on ntdll.so: %s", strerror(-o.error));
		wine.pending--;
		wine.since_ns = now_ns();
	} else if (n >= 0 || errno != EAGAIN) {
		wine_ended(false);
	}
}

/* ======== 15. game ================================================================== */

/*
 * BPF tells which processes may matter (game_hint), each gets a slot and, at once and when
 * its start has settled, a look at /proc, which a child takes (reader_work): a server of the game
 * gets its class, of any other it is known what it is (slot_told). What a process does now BPF counts
 * (struct activity), which is read while anyone but the game does something (game_look). Both make
 * the score, by the same rules for the game and for all others, and the best becomes the game
 * (game_choose). Nothing here runs while nothing starts, ends or begins to draw.
 *
 * A game belongs to a user. No other user's process takes its place while it runs, and where
 * there are more servers, or files of Wine, than room, its user's come first, then root's.
 */

#define USERS_FROM	1000	/* below are the system's */
#define GAME_SLOTS	48	/* candidates and servers */
#define GAME_SERVERS	16	/* of these; the rest is for candidates */
#define GAME_SCORE	50	/* from here on it is a game */
#define GAME_MARGIN	20	/* what another must have more than the game that draws */
#define GAME_HOLD_NS	(1 * NSEC_PER_SEC)	/* and for so long */
#define GAME_STILL_NS	(2 * NSEC_PER_SEC)	/* whoever draws no frame for so long has stopped */
#define PLAYS_NS	(2500 * NSEC_PER_MSEC)	/* input was read or sound was moved so lately */
#define NVIDIA_NS	(10 * NSEC_PER_SEC)	/* and that driver was asked for something */
#define JUDGE_NS	(500 * NSEC_PER_MSEC)	/* between two looks at what processes do */
#define STEADY_BINS	12	/* 3.2 s of frames at a steady rate */
#define UNEVEN_BINS	2	/* of them, with less than a quarter of the average or more than three times it */
#define ANCESTORS	12
#define LOOK_SOON_NS	(100 * NSEC_PER_MSEC)	/* an exec is over, threads have started */
#define LOOK_AGAIN_NS	(1 * NSEC_PER_SEC)	/* libraries, memory and threads have come */
#define GAME_POLL_NS	(2 * NSEC_PER_SEC)	/* where the kernel tells of no exec */
#define READ_NS		(1 * NSEC_PER_SEC)	/* a child that does not move on for so long hangs */
#define READ_SKIP	64	/* processes that took longer */
#define READ_SKIP_USER	4	/* of one user: then none of that user's is read */
#define READ_LOST	4	/* children that hang: then only what cannot hang is read */
#define READ_AT_ONCE	64	/* processes in one order, answers in one turn of the loop */
#define READ_SOCKETS	512	/* of the game that are looked at */
#define READ_APPS_SHIFT	38	/* ns: what hung below app_dirs is tried again within 275 s */
#define READ_APPS	(-100)	/* stands for the first of app_dirs where processes have their numbers */
#define DISPLAY_LOOKS	10	/* for the game's display, each after twice the time: a minute and a half */

/*
 * What is seen of a process, what it adds to its score, and how that is said. To draw steadily makes
 * a game of a process of which nothing else is known. The first four are what it does now.
 */
#define TRAITS(X)								\
	X(DRAWS, 50, "draws steadily")						\
	X(PLAYS, 40, "reads a gamepad")					\
	X(NVIDIA, 20, "uses NVIDIA's driver")					\
	X(SOUNDS, 5, "plays sound")						\
	X(FULL, 20, "fills the screen by itself")				\
	X(FLIPS, -100, "flips pages as compositors do")				\
	X(SHOWS, -100, "shows what the game draws")				\
	X(DECLARED, 1000, "GAMER_GAME is set")					\
	X(BENCH, 1000, "is gamer's own game")					\
	X(LAUNCHED, 30, "was started by a launcher")				\
	X(GAME_APP, 40, "its application is of the category Game")		\
	X(WINE_ENV, 15, "Wine was set up for it")				\
	X(STEAM_FOLDER, 20, "lies where Steam puts games")			\
	X(WINE_LOADER, 15, "is run by Wine")					\
	X(WINDOWS_NAME, 10, "has the name of a Windows program")		\
	X(APP, -40, "is an application of the desktop")			\
	X(SHELL, -40, "belongs to the desktop")					\
	X(PARTS, -60, "is one of a program's many processes")			\
	X(LAUNCHER_NAME, -20, "is called launcher")				\
	X(HELPER, -60, "has the name of a helper or desktop program")		\
	X(SERVICE, -500, "is a service")					\
	X(NOTHING, -5000, "cannot be a game")

#define TRAIT_ID(id, ...) TRAIT_##id,
enum trait { TRAITS(TRAIT_ID) TRAIT_NR };

#define T(name)		(1u << TRAIT_##name)
#define T_TOLD		(T(DECLARED) | T(BENCH))
#define T_DOES		(T(DRAWS) | T(PLAYS) | T(NVIDIA))
#define T_WINE		(T(WINE_ENV) | T(WINE_LOADER) | T(WINDOWS_NAME))

#define TRAIT_ROW(id, weight, text) { weight, text },
static const struct { s32 weight; const char *text; } game_traits[] = { TRAITS(TRAIT_ROW) };

/* Variables that count unless they are empty or 0. */
static const struct { const char *name; u32 trait; } game_env[] = {
#define ENV_TRAIT(name, trait) { name, T(trait) },
	ENV_NAMES(ENV_TRAIT)
	ENV_TRAIT("STEAM_COMPAT_DATA_PATH=", WINE_ENV) ENV_TRAIT("PROTON_", WINE_ENV)
	ENV_TRAIT("WINEPREFIX=", WINE_ENV) ENV_TRAIT("WINELOADER=", WINE_ENV)
};

/* Names of what starts games and nothing else, or how they begin. */
static const char *const game_starters[] = {
	"reaper", "pv-adverb", "steam-launch-wr", "lutris-wrapper", "umu-run", "legendary", "gogdl", "nile",
	"bottles-cli",
};

/* Parts of the names of sockets by which programs reach a display, in any folder or none (Linux' own names). */
static const char *const display_sockets[] = { "/wayland-", "/gamescope-", "/.X11-unix/X" };

/* Parts of the names of launchers' applications. */
static const char *const game_launchers[] = { "steam", "lutris", "heroic", "bottles" };

/* What shows web pages for the program that starts it; of others' engines the arguments tell. */
static const char *const web_engines[] = { "QtWebEngineProcess", "WebKitWebProcess", "WebKitGPUProcess" };

/* Where applications say what they are; NAME.desktop. */
static const char *const app_dirs[] = {
	"/usr/share/applications", "/usr/local/share/applications",
	"/var/lib/flatpak/exports/share/applications", "/var/lib/snapd/desktop/applications",
};

#define SERVER(name, class) { name, CLASS_##class },
static const struct { const char *comm; u8 class; } game_servers[] = { SERVER_NAMES(SERVER) };

/* Not games, though they come with one, look like one or draw as fast: a hint, as names are. */
static const char *const game_helpers[] = {
	/* parts of Wine and Proton; the loader takes the program's name when it has loaded it */
	"wine", "wine64", "wine-preloader", "wine64-preloader", "services.exe", "explorer.exe", "winedevice.exe",
	"plugplay.exe", "svchost.exe", "rpcss.exe", "conhost.exe", "start.exe", "tabtip.exe", "wineboot.exe",
	"winedbg.exe", "winemenubuilder.exe", "rundll32.exe", "regsvr32.exe", "msiexec.exe", "cmd.exe", "dllhost.exe",
	"iexplore.exe", "xalia.exe", "steam.exe", "steamservice.exe", "proton",
	/* crash handlers, anti-cheat, stores' own programs */
	"UnityCrashHandler64.exe", "CrashReportClient.exe", "crashpad_handler", "CrashSender1403.exe",
	"BsSndRpt64.exe", "QtWebEngineProcess.exe", "start_protected_game.exe", "EpicGamesLauncher.exe",
	"EpicWebHelper.exe", "EADesktop.exe", "EABackgroundService.exe", "Battle.net.exe", "Agent.exe", "upc.exe",
	"UplayWebCore.exe", "GalaxyClient.exe", "RockstarService.exe", "SocialClubHelper.exe",
	/* what starts games */
	"steam", "steamwebhelper", "reaper", "pv-adverb", "pv-bwrap", "srt-bwrap", "bwrap", "steam-launch-wrapper",
	"steam-runtime-launcher", "gameoverlayui", "mangoapp", "gamemoded", "lutris", "lutris-wrapper", "heroic",
	"bottles", "umu-run", "python3", "sh", "bash", "dash",
	/* desktops, browsers, players, terminals */
	"plasmashell", "ksmserver", "xfwm4", "cinnamon", "firefox", "firefox-bin", "chrome", "chromium", "brave",
	"msedge", "opera", "vivaldi-bin", "electron", "Discord", "slack", "spotify", "code", "obs", "mpv", "vlc",
	"kodi.bin", "totem", "kitty", "alacritty", "foot", "ghostty", "wezterm-gui", "konsole",
	"gnome-terminal-server", "ptyxis",
};

/* What is known of a process that may be the game. */
struct seen {
	u32 is;			/* traits that it has by what it is; slot_told() */
	u32 does;		/* by what it does now; slot_does() */
};

/* A process that may be the game, or serves it; a slot is free where pid is 0. */
struct game_slot {
	s32 pid;		/* slot_add() */
	int pidfd;		/* of pid, in the epoll set; slot_add() */
	u32 hints;		/* enum hint, all so far; game_hint() */
	u64 hint_at_ns;		/* the first of them; game_hint() */
	struct seen seen;
	u64 frame_at_ns;	/* its last frame, CLOCK_MONOTONIC, 0: none; slot_does() */
	u64 input_at_ns;	/* its last read of a gamepad, the same; slot_does() */
	u64 began_ns;		/* when it began to draw steadily, 0: it has stopped; slot_does() */
	u64 ahead_ns;		/* since when it is ahead of the game, 0: it is not; game_choose() */
	s32 above[ANCESTORS];	/* its ancestors, the nearest first, 0: no more; slot_told() */
	u32 uid;		/* effective; -1: not known yet; slot_told() */
	u32 launch;		/* tells what was started from others, 0: not known; slot_told() */
	struct wine_file *wine;	/* its ntdll.so or NULL; wine_attach() */
	u64 due_ns;		/* next look, CLOCK_MONOTONIC; 0: none; slot_due(), reader_next() */
	u64 told_at_ns;		/* the last one that was whole; reader_told() */
	u8 class;		/* enum class as last written to BPF; slot_class() */
	u8 known;		/* 1: comm, uid and what it is are known; slot_told() */
	u8 again;		/* looks to come after the next; game_hint(), slot_told() */
	u8 asked;		/* 1: the child looks at it; reader_next(), reader_told() */
	u8 was;			/* 1: it has been the game; game_switch() */
	u8 shows;		/* 1: the game is connected to it, for a display; slot_shows() */
	u8 looks;		/* for the game's display; slot_shows() */
	char comm[16];		/* not trusted; slot_told() */
};

static struct game {
	struct game_slot slot[GAME_SLOTS];
	struct game_slot *now;	/* the game or NULL; game_switch() */
	u64 since_ns;		/* since when; game_switch() */
	s32 wanted;		/* --game while that lives, 0: none; slot_exited() */
	u64 scan_due_ns;	/* next look at all processes, 0: none; game_scan_soon() */
	u64 scanned_at_ns;	/* the last one; game_scan() */
	u64 check_due_ns;	/* next look at what BPF lost, 0: none; game_hint() */
	u64 judge_due_ns;	/* next look at what processes do, 0: none; game_looks() */
	u64 rests_until_ns;	/* nobody becomes the game before; slot_exited() */
	u64 lost;		/* hints that BPF had lost by the last look; game_lost() */
	u64 first_frame;	/* frames_logged when it became that; game_switch() */
	u64 detected_us;	/* from its first hint until then, 0: it ran before us; game_switch() */
	u64 full;		/* processes and files that found no room; game_full() */
	bool blind;		/* BPF's numbers are not those of this PID namespace; game_check_option() */
	char buf[64 * 1024];	/* the child's; nobody keeps anything in it */
} game;		/* no initial values: 64 KB that the file does not hold */

/* What the child is to look at. */
enum look {
	LOOK_NOTHING,
	LOOK_PROCESS,		/* `pid` */
	LOOK_ALL,		/* READ_AT_ONCE from `pid` on: who may be a game or a server is told */
	LOOK_FILE,		/* row `pid` of wine_dirs */
};

struct order {
	u32 look;		/* enum look */
	s32 pid;
	u32 wine;		/* 0: no library, 1: that of a Windows program, 2: any */
	u32 display;		/* 1: whoever shows what it draws is to be told too */
};

/* An answer. The last answer to LOOK_ALL names no process: its pid is where to go on, or 0. */
struct facts {
	s32 pid;
	u32 last;		/* the order is done */
	u32 traits;		/* what it is */
	u32 uid;		/* effective */
	u32 launch;		/* what was started: its launcher's process, or a number of its name, 0: unknown */
	s32 display;		/* the process that shows what it draws, 0: none, -1: unknown */
	s32 above[ANCESTORS];
	char comm[16];
	struct wine_facts wine;	/* where an open file comes along */
};

/*
 * The child that reads. It shows which process it is about to read, so that gamer knows which process
 * it hangs on.
 */
static struct reader {
	struct child child;
	struct order order;	/* what it is at; reader_next(), reader_told() */
	u64 deadline_ns;	/* then it hangs, or is to be started again; 0: none */
	u64 turn;		/* shown->turn when that was set */
	u64 asked_turn;		/* when it was asked; reader_next() */
	s32 scan;		/* /proc is to be read from this process on, 0: no; game_scan() */
	u32 row;		/* of wine_dirs: the next to look at; reader_next() */
	u64 hung;		/* processes that were skipped */
	struct shown {
		u64 turn;	/* moves with each process; the child, as the next three */
		u64 start;	/* of it, after boot, in clock ticks */
		s32 pid;	/* of it; minus the row of wine_dirs, less 1; READ_APPS minus that of app_dirs */
		char name[64];	/* of the process or the file; not trusted */
		u32 safe;	/* read nothing that can hang; reader_lost(), children_reap() */
		u32 skipped;	/* processes that hung: skip[skipped % READ_SKIP] is the next */
		u32 uid;	/* of the process that is read; the child */
		struct { s32 pid; u32 uid; u64 start; } skip[READ_SKIP];	/* reader_lost() */
	} *shown;		/* memory that both have; game_open() */
} reader;

/* What /proc/PID/stat tells, of any thread. Cannot hang. */
struct proc_stat {
	char comm[16];
	u64 start;		/* after boot, in clock ticks */
	s32 parent, tty;
	char state;
	bool nothing;		/* gone, dead, the kernel's or gamer itself */
};

static struct proc_stat proc_stat(s32 pid)
{
	struct proc_stat p = { .nothing = true };
	char *at, *end;
	u64 field[23] = { 0 };
	u32 i;

	read_file(game.buf, 1024, "/proc/%d/stat", pid);
	at = strchr(game.buf, '(');
	end = strrchr(game.buf, ')');	/* the name may hold anything */
	if (!at || !end || strlen(end) < 4)
		return p;
	*end = 0;
	snprintf(p.comm, 16, "%s", at + 1);
	at = end + 3;
	for (i = 4; i < ARRAY_SIZE(field); i++)
		field[i] = strtoll(at, &at, 10);
	p.start = field[22];
	p.state = end[2];
	p.parent = field[4];
	p.tty = field[7];
	/* a zombie, PF_KTHREAD, gamer and its children */
	p.nothing = p.state == 'Z' || (field[9] & 0x00200000) || pid == st.pid || p.parent == st.pid;
	return p;
}

/* What one variable of an environment tells of its process. */
static u32 env_traits(const char *var)
{
	const char *value;
	u32 traits = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(game_env); i++) {
		value = var + strlen(game_env[i].name);
		if (!strncmp(var, game_env[i].name, value - var) && *value && strcmp(value, "0"))
			traits |= game_env[i].trait;
	}
	return traits;
}

/* What one argument tells: browsers, and programs that are built on them, start their parts with these. */
static u32 arg_traits(const char *arg)
{
	return !strncmp(arg, "--type=", 7) || !strcmp(arg, "-contentproc") ? T(PARTS) : 0;
}

/* What the strings of a file in /proc/PID tell. */
static u32 proc_strings(s32 pid, const char *name, u32 (*traits_of)(const char *string))
{
	size_t len = read_file(game.buf, sizeof(game.buf), "/proc/%d/%s", pid, name);
	const char *at;
	u32 traits = 0;

	for (at = game.buf; at < game.buf + len; at += strlen(at) + 1)
		traits |= traits_of(at);
	return traits;
}

static bool ends_with(const char *s, const char *end)
{
	size_t a = strlen(s), b = strlen(end);

	return a >= b && !strcmp(s + a - b, end);
}

/* What a program's path tells. */
static u32 exe_traits(const char *path)
{
	const char *at = strrchr(path, '/');
	size_t i;

	for (i = 0; i < ARRAY_SIZE(web_engines) && at; i++)
		if (!strcmp(at + 1, web_engines[i]))
			return T(PARTS);
	if (at && !strncmp(at, "/wine", 5) && strncmp(at, "/wineserver", 11))
		return T(WINE_LOADER);
	if (strstr(path, "/xscreensaver/"))
		return T(SHELL);	/* one of its many programs that draw */
	at = strstr(path, "/steamapps/common/");
	/* Proton and the runtimes that wrap games lie there too */
	if (at && strncmp(at + 18, "Proton", 6) && strncmp(at + 18, "SteamLinuxRuntime", 17))
		return T(STEAM_FOLDER);
	return 0;
}

/* A program's path: only looked at, never opened. Cannot hang. */
static void proc_exe(s32 pid, char path[PATH_MAX])
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	n = readlink(link, path, PATH_MAX - 1);
	path[MAX(n, 0)] = 0;
}

/* snapd starts an application as snap.NAME.APP-UUID; the application's description is NAME_APP.desktop. */
static void app_of_snap(char *app)
{
	size_t n = strlen(app);
	char *dot;

	if (strncmp(app, "snap.", 5) || n < 5 + 37)
		return;
	app[n - 37] = 0;
	memmove(app, app + 5, n - 37 - 5 + 1);
	dot = strchr(app, '.');
	if (dot)
		*dot = '_';
}

/* Is that a launcher's application? */
static bool app_launches(const char *app)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(game_launchers); i++)
		if (strcasestr(app, game_launchers[i]))
			return true;
	return false;
}

/*
 * What the path of a control group tells; `app` becomes the application in the names that systemd gives:
 * app[-DESKTOP]-NAME-NUMBER.scope or app[-DESKTOP]-NAME@NUMBER.service, escaped, or snapd's.
 */
static u32 cgroup_traits(const char *path, u32 uid, char app[128])
{
	const char *unit = strrchr(path, '/'), *at;
	size_t n = 0;

	app[0] = 0;
	/* root's and those of users that nobody is, systemd's dynamic ones too; libvirt's machines */
	if ((!strncmp(path, "/system.slice/", 14) || !strncmp(path, "/machine.slice/", 15)) &&
	    (uid < USERS_FROM || uid == 65534 || (uid >= 61184 && uid < 65520)))
		return T(SERVICE);
	if (strstr(path, "/session.slice/") || strstr(path, "/background.slice/"))
		return T(SHELL);
	/* a terminal's own are what somebody started by hand */
	if (!unit || !strstr(path, "/app.slice/") || !strncmp(unit, "/vte-spawn-", 11))
		return 0;
	for (at = unit + 1 + 4 * !strncmp(unit, "/app-", 5); *at && *at != '@' && n < 127; at++) {
		u32 c = (u8)*at;

		if (sscanf(at, "\\x%2x", &c) == 1)
			at += 3;
		app[n++] = c;
	}
	app[n] = 0;
	at = strncmp(app, "snap.", 5) ? strrchr(app, '-') : NULL;
	if (ends_with(app, ".scope"))
		app[at ? (size_t)(at - app) : n - 6] = 0;
	else if (ends_with(app, ".service"))
		app[n - 8] = 0;
	app_of_snap(app);
	if (app_launches(app))
		return app[0] = 0;
	return T(APP);
}

/* May files of this process be read that can make the child hang? If so, the process is shown first. */
static bool reader_may(s32 pid, u64 start, u32 uid, const char *name)
{
	struct shown *s = reader.shown;
	u32 users = 0;
	size_t i;

	for (i = 0; i < READ_SKIP; i++) {
		if (s->skip[i].pid == pid && s->skip[i].start == start)
			return false;
		users += s->skip[i].pid > 0 && s->skip[i].uid == uid;
	}
	if (s->safe || (pid > 0 && users >= READ_SKIP_USER))
		return false;
	s->pid = pid;
	s->uid = uid;
	s->start = start;
	snprintf(s->name, sizeof(s->name), "%s", name);
	__atomic_fetch_add(&s->turn, 1, __ATOMIC_RELEASE);
	return true;
}

/* An application's own description says whether the application is a game or something else that users start. */
static u32 desktop_traits(const char *text)
{
	const char *at = strstr(text, "\nCategories="), *end = at ? strchrnul(at + 1, '\n') : NULL;

	for (; at && at < end; at = strpbrk(at + 1, "=;\n"))
		if (word_is(at + 1, strcspn(at + 1, ";\n"), "Game"))
			return T(GAME_APP);
	/* what no menu shows runs other programs, as an interpreter does */
	return strstr(text, "\nNoDisplay=true") || strstr(text, "\nTerminal=true") ? 0 : T(APP);
}

/* What the description of the application of that name says; 0: there is none. A folder may lie on a dead server. */
static u32 app_traits(const char *name)
{
	s32 i;

	for (i = 0; i < (s32)ARRAY_SIZE(app_dirs) && *name && !strchr(name, '/'); i++)
		if (reader_may(READ_APPS - i, now_ns() >> READ_APPS_SHIFT, 0, app_dirs[i]) &&
		    read_file(game.buf, sizeof(game.buf), "%s/%s.desktop", app_dirs[i], name))
			return desktop_traits(game.buf);
	return 0;
}

/* Is the application that a control group names a game, under its name or without its desktop's? */
static bool app_is_game(const char *app)
{
	u32 traits = app_traits(app);

	while (!traits && (app = strchr(app, '-')))
		traits = app_traits(++app);
	return traits & T(GAME_APP);
}

/* The path of a process in the tree of cgroup2, in game.buf; NULL: it has none. */
static const char *proc_cgroup2(s32 pid)
{
	char *at;

	read_file(game.buf, sizeof(game.buf), "/proc/%d/cgroup", pid);
	at = strstr(game.buf, "0::/");
	while (at && at != game.buf && at[-1] != '\n')
		at = strstr(at + 1, "0::/");
	if (!at)
		return NULL;
	*strchrnul(at, '\n') = 0;
	return at + 3;
}

/*
 * Of the application that a process belongs to: its control group has its name, or else its program. `launch`
 * becomes a number of a game's name.
 */
static u32 proc_app(s32 pid, const char *exe, u32 uid, bool tty, u32 *launch)
{
	const char *path = proc_cgroup2(pid), *name = strrchr(exe, '/');
	char app[128] = "";
	u32 traits = path ? cgroup_traits(path, uid, app) : 0;

	if ((traits & T(APP)) && app_is_game(app)) {
		name = app;
		traits = T(GAME_APP);
	} else {
		if ((traits & T(APP)) && tty)
			traits = 0;	/* with a terminal: the application is the terminal */
		if (!traits && name && !app_launches(name))
			traits = app_traits(++name);
	}
	if (traits & T(GAME_APP))
		*launch = crc32(0, (const u8 *)name, strlen(name));
	return traits;
}

/* Is this another person than that user, and none of the system's users? */
static bool user_is_stranger(u32 uid, u32 user)
{
	return uid != user && uid >= USERS_FROM;
}

/*
 * Does its user sit at another seat than the first one, or at none while somebody else sits there? So
 * systemd-logind says.
 */
static bool user_is_elsewhere(u32 uid)
{
	char line[1024], *at;

	read_file(line, sizeof(line), "/run/systemd/users/%u", uid);
	at = strstr(line, "\nSEATS=");
	if (!at)
		return false;
	if (!at[7] || at[7] == '\n') {
		read_file(line, sizeof(line), "/run/systemd/seats/seat0");
		at = strstr(line, "\nACTIVE_UID=");
		return uid && at && user_is_stranger(strtoul(at + 12, NULL, 10), uid);
	}
	*strchrnul(at + 7, '\n') = 0;
	return !strstr(at + 7, "seat0");
}

/* What a name tells that the kernel cut to 15 bytes. */
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

/* Are children of this thread parts of its program, `exe`? */
static u32 thread_parts(s32 pid, s32 tid, const char *exe)
{
	char name[48], path[PATH_MAX], list[512], *at = list, *end;
	u32 traits = 0, left = 16;
	struct stat s;
	s32 child;

	read_file(list, sizeof(list), "/proc/%d/task/%d/children", pid, tid);
	for (; !traits && left-- && (child = strtol(at, &end, 10)) > 0; at = end) {
		struct proc_stat p = proc_stat(child);

		proc_exe(child, path);
		traits = exe_traits(path) & T(PARTS);
		snprintf(name, sizeof(name), "/proc/%d", child);
		if (!traits && !p.nothing && !strcmp(path, exe) && !stat(name, &s) &&
		    reader_may(child, p.start, s.st_uid, p.comm))
			traits = proc_strings(child, "cmdline", arg_traits);
	}
	return traits;
}

/* A browser without a process for its drawing: its children, whichever thread started them, are its program's parts. */
static u32 proc_parts(s32 pid, const char *exe)
{
	int left = READ_AT_ONCE;
	u32 traits = 0;
	struct dir d;
	s32 tid;

	dir_open(&d, "/proc/%d/task", pid);
	while (!traits && left-- && (tid = dir_number(&d)) >= 0)
		traits = thread_parts(pid, tid, exe);
	dir_close(&d);
	return traits;
}

/*
 * The ancestors, and whether one of them starts games or was told by a launcher to be one: what a launcher
 * tells its child may be lost on the way to the game. `launch` becomes the topmost of those that start games.
 */
static u32 proc_ancestors(s32 parent, u32 uid, bool read, s32 above[ANCESTORS], u32 *launch)
{
	u32 traits = 0, i, k;

	for (i = 0; i < ANCESTORS && parent > 1; i++) {
		struct proc_stat p = proc_stat(parent);

		if (p.nothing)
			break;
		above[i] = parent;
		for (k = 0; k < ARRAY_SIZE(game_starters); k++)
			if (!strncmp(p.comm, game_starters[k], strlen(game_starters[k]))) {
				traits |= T(LAUNCHED);
				*launch = parent;
			}
		if (read && !traits && reader_may(parent, p.start, uid, p.comm))
			traits |= proc_strings(parent, "environ", env_traits) & T(LAUNCHED);
		parent = p.parent;
	}
	return traits;
}

/* Does it run in the user's service of a compositor above it? Then that session is for this program, and no desktop. */
static bool proc_is_session(s32 pid, const s32 above[ANCESTORS])
{
	const char *path = proc_cgroup2(pid);
	char own[512];
	u32 i;

	snprintf(own, sizeof(own), "%s", path && strstr(path, "/app.slice/") ? path : "");
	for (i = 0; i < ANCESTORS && above[i] && *own; i++) {
		if (comm_class(proc_stat(above[i]).comm) != CLASS_COMPOSITOR)
			continue;
		path = proc_cgroup2(above[i]);
		return path && !strcmp(path, own);
	}
	return false;
}

/* One look at a process. True: files of it may be read that can make the child hang. */
static bool proc_facts(s32 pid, bool whole, struct facts *f)
{
	struct proc_stat p = proc_stat(pid);
	char dir[32], exe[PATH_MAX];
	struct stat s;
	bool may;

	*f = (struct facts){ .pid = pid, .uid = -1, .display = -1, .traits = p.nothing ? T(NOTHING) : 0 };
	memcpy(f->comm, p.comm, sizeof(f->comm));
	if (p.nothing)
		return false;
	snprintf(dir, sizeof(dir), "/proc/%d", pid);
	if (!stat(dir, &s))
		f->uid = s.st_uid;
	proc_exe(pid, exe);
	f->traits |= exe_traits(exe) | comm_traits(f->comm);
	may = reader_may(pid, p.start, f->uid, f->comm);
	if (may)
		f->traits |= proc_strings(pid, "environ", env_traits);
	if (!whole)
		return may;
	if (may)
		f->traits |= proc_strings(pid, "cmdline", arg_traits);
	/* Wine's loader is no application, whatever it runs */
	f->traits |= proc_app(pid, f->traits & T(WINE_LOADER) ? "" : exe, f->uid, p.tty, &f->launch);
	f->traits |= user_is_elsewhere(f->uid) ? T(NOTHING) : 0;
	/* Wine's loader is the program of all that Wine runs */
	if (may && !(f->traits & (T(WINE_LOADER) | T(PARTS))))
		f->traits |= proc_parts(pid, exe);
	f->traits |= proc_ancestors(p.parent, f->uid, may && !(f->traits & T(LAUNCHED)), f->above, &f->launch);
	if ((f->traits & T(APP)) && proc_is_session(pid, f->above))
		f->traits &= ~T(APP);
	return may && reader_may(pid, p.start, f->uid, f->comm);
}

/* What a process does now, by what BPF has counted of it. */
static u32 activity_traits(const struct activity *a, u64 now)
{
	u32 newest = now >> ACTIVITY_BIN_SHIFT, sum = 0, uneven = 0, traits = 0, i;
	u8 frames[STEADY_BINS];

	/* the bin that has only begun does not count */
	for (i = 0; i < STEADY_BINS; i++) {
		u32 bin = newest - 1 - i, age = a->bin - bin;

		frames[i] = a->frame_at_ns && age < ACTIVITY_BINS ? a->bins[bin % ACTIVITY_BINS] : 0;
		sum += frames[i];
	}
	for (i = 0; i < STEADY_BINS; i++)
		uneven += frames[i] * 4 * STEADY_BINS < sum || frames[i] * STEADY_BINS > 3 * sum;
	traits |= sum >= STEADY_BINS && uneven <= UNEVEN_BINS ? T(DRAWS) : 0;
	traits |= a->nvidia && now - a->frame_at_ns < NVIDIA_NS ? T(NVIDIA) : 0;
	traits |= a->input_at_ns && now - a->input_at_ns < PLAYS_NS ? T(PLAYS) : 0;
	traits |= a->sound_at_ns && now - a->sound_at_ns < PLAYS_NS ? T(SOUNDS) : 0;
	return traits;
}

static s32 game_score(const struct seen *seen)
{
	u32 traits = seen->is | seen->does, i;
	s32 score = 0;

	/* what a launcher started, what calls itself a game, and what is alone on the screen is no desktop's */
	if (traits & (T(LAUNCHED) | T(GAME_APP) | T(FULL)))
		traits &= ~(T(APP) | T(SHELL));
	for (i = 0; i < TRAIT_NR; i++)
		score += traits & (1u << i) ? game_traits[i].weight : 0;
	return score;
}

/* Could a process be the game by what it does now, or because somebody says so? */
static bool game_plays(const struct seen *seen)
{
	return game_score(seen) >= GAME_SCORE && ((seen->is & T_TOLD) || (seen->does & T_DOES));
}

/* Could a process be the game once it draws and is played again as before? */
static bool game_stands(const struct game_slot *s)
{
	u32 does = s->seen.does | T(DRAWS) | (s->input_at_ns ? T(PLAYS) : 0);

	return game_score(&(struct seen){ s->seen.is, does }) >= GAME_SCORE - GAME_MARGIN;
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

/* The ntdll.so that a process has mapped, or -1. */
static int proc_wine(s32 pid, struct wine_facts *f)
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
		for (line = buf; !found && (end = memchr(line, '\n', buf + len - line)); line = end + 1) {
			*end = 0;
			found = maps_ntdll(pid, line, path, sizeof(path));
		}
		len -= line - buf;
		memmove(buf, line, len);
	}
	fd_close(fd);
	return found ? wine_read(path, false, f) : -1;
}

/*
 * With which process does this socket of another process connect, if that is a display? The process itself
 * where it listens, as who serves clients does; 0: with none; -1: not to be seen. The socket's name alone would
 * let any process of another user serve: only the user's own and the system's are taken.
 */
static s32 socket_display(s32 pid, int pidfd, int number, u32 uid)
{
	int fd = syscall(SYS_pidfd_getfd, pidfd, number, 0), listens = 0;
	struct sockaddr_un to = { 0 };
	socklen_t len = sizeof(to) - 1, size = sizeof(struct ucred), one = sizeof(listens);
	struct ucred peer = { 0 };
	s32 display = 0;
	size_t i;

	if (fd < 0)
		return errno == EBADF ? 0 : -1;
	if (!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &one) && listens)
		display = pid;
	else if (!getpeername(fd, (struct sockaddr *)&to, &len) && to.sun_family == AF_UNIX &&
		 !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && !user_is_stranger(peer.uid, uid))
		for (i = 0; i < ARRAY_SIZE(display_sockets); i++)
			if (strstr(to.sun_path + !to.sun_path[0], display_sockets[i]))
				display = peer.pid;
	close(fd);
	return display;
}

/*
 * Who shows what a process draws, whatever its name: the display that the process is connected to, else the
 * process itself where it serves others. 0: nobody, -1: that cannot be seen.
 */
static s32 proc_display(s32 pid, u32 uid)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), left = READ_SOCKETS;
	s32 display, one, number;
	char path[64], link[16];
	struct dir d;

	dir_open(&d, "/proc/%d/fd", pid);
	display = d.fd < 0 ? -1 : 0;
	while (left && (number = dir_number(&d)) >= 0) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, number);
		if (readlink(path, link, sizeof(link)) < 8 || memcmp(link, "socket:[", 8))
			continue;
		left--;
		one = socket_display(pid, pidfd, number, uid);
		if ((one > 0 && one != pid) || (one && display <= 0))
			display = one;
	}
	dir_close(&d);
	fd_close(pidfd);
	/* systemd listens for a program that it then starts */
	return display > 0 && !strcmp(proc_stat(display).comm, "systemd") ? 0 : display;
}

/* LOOK_ALL: tells which processes may be a game or a server, or bring a Wine, and where to go on. */
static void reader_scan(int sock, struct facts *f, s32 from)
{
	int left = READ_AT_ONCE;
	struct dir d;
	s32 pid;

	for (dir_open(&d, "/proc"); (pid = dir_number(&d)) >= 0; ) {
		if (pid < from)
			continue;
		if (!left--)
			break;
		proc_facts(pid, false, f);
		if ((f->traits & (T_TOLD | T(WINE_LOADER) | T(WINDOWS_NAME))) || comm_class(f->comm))
			message_send(sock, f, sizeof(*f), NULL, 0, 0);
	}
	dir_close(&d);
	*f = (struct facts){ .pid = MAX(pid, 0) };
}

/* The child that reads: it takes an order, answers, and takes the next. */
static void reader_work(int sock)
{
	int fds[MESSAGE_FILES], fd;
	struct order o;
	struct facts f;
	char path[128];

	while (message_receive(sock, &o, sizeof(o), fds, 0) == sizeof(o)) {
		fd = -1;
		if (o.look == LOOK_ALL) {
			reader_scan(sock, &f, o.pid);
		} else if (o.look == LOOK_FILE) {
			f = (struct facts){ .pid = -o.pid - 1 };
			snprintf(path, sizeof(path), "%s/wine/x86_64-unix/ntdll.so", wine_dirs[o.pid]);
			if (reader_may(f.pid, 0, 0, path))
				fd = wine_read(path, true, &f.wine);
		} else if (proc_facts(o.pid, true, &f)) {
			if (o.wine == 2 || (o.wine && f.traits & T_WINE))
				fd = proc_wine(o.pid, &f.wine);
			if (o.display)
				f.display = proc_display(o.pid, f.uid);
		}
		f.last = 1;
		if (!message_send(sock, &f, sizeof(f), &fd, fd >= 0, 0))
			return;
		fd_close(fd);
	}
}

/* The earlier of two times, of which 0 is none. */
static u64 first_of(u64 a, u64 b)
{
	return !a || (b && b < a) ? b : a;
}

static bool scanning(void)
{
	return reader.scan || reader.order.look == LOOK_ALL;
}

/* The timer fires when the first look is due or the child should have answered; else never. */
static void timer_arm(void)
{
	u64 due = reader.deadline_ns, now = now_ns();
	size_t i;

	if (!due && st.hook_why[HOOK_GAME])
		due = now + GAME_POLL_NS;
	/* a scan is not begun anew before it is over, or it might never be */
	due = first_of(first_of(due, scanning() ? 0 : game.scan_due_ns), game.check_due_ns);
	due = first_of(due, game.judge_due_ns);
	if (wine.pending && !wine.told)
		due = first_of(due, wine.since_ns + READ_NS);
	for (i = 0; i < GAME_SLOTS && !reader.deadline_ns; i++)
		if (game.slot[i].pid)
			due = first_of(due, game.slot[i].due_ns);
	timer_set(EV_GAME, due > now ? due - now : due > 0, 0);
}

/*
 * Does the process of a slot still run? While it does, its pid cannot mean another process, so
 * what was read from /proc before was read of this process.
 */
static bool slot_alive(const struct game_slot *s)
{
	struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

static void slot_free(struct game_slot *s)
{
	if (s->wine && !--s->wine->users)
		wine_send(s->wine, -1, NULL);
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

/* Who gives way to whom: the game comes first, then what is its user's, then root's. */
static u32 slot_rank(const struct game_slot *s)
{
	return s == game.now ? 3 : game.now && s->uid == game.now->uid ? 2 : s->uid == 0;
}

/* Notes that a process or file found no room: one line, the first time. */
static void game_full(const char *what, s32 pid)
{
	if (!game.full++)
		note("game: all places for %s are taken, so process %d gets none", what, pid);
}

/* A free slot, else that of the least likely candidate; NULL: none has been looked at yet. */
static struct game_slot *slot_least(void)
{
	struct game_slot *s, *least = NULL;
	u32 rank, lowest = 0;

	for (s = game.slot; s < game.slot + GAME_SLOTS; s++) {
		if (!s->pid)
			return s;
		if (s->class != CLASS_OTHER || !s->known)
			continue;
		rank = slot_rank(s);
		if (!least || rank < lowest || (rank == lowest && game_score(&s->seen) < game_score(&least->seen))) {
			least = s;
			lowest = rank;
		}
	}
	return least;
}

/* Its place goes to another: BPF is to tell of it anew when it next draws, reads input or moves sound. */
static void slot_forget(const struct game_slot *s)
{
	int map = bpf_map__fd(st.skel->maps.activities);
	struct activity a;

	if (bpf_map_lookup_elem(map, &s->pidfd, &a))
		return;
	a.told = 0;
	bpf_map_update_elem(map, &s->pidfd, &a, BPF_EXIST);
}

/* A slot for a process; NULL: it is gone, or (ENOSPC) all slots are taken. */
static struct game_slot *slot_add(s32 pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);
	struct game_slot *s = fd < 0 ? NULL : slot_least();

	if (!s) {
		if (fd >= 0) {
			game_full("games", pid);
			close(fd);
			errno = ENOSPC;
		}
		return NULL;
	}
	if (s->pid) {
		slot_forget(s);
		slot_free(s);
	}
	*s = (struct game_slot){ .pid = pid, .pidfd = fd, .uid = -1 };
	loop_add(fd, EV_PIDFD + (s - game.slot), EPOLLIN);
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
		err = bpf_map_update_elem(bpf_map__fd(st.skel->maps.procs), &s->pidfd, &value, BPF_ANY);
	} while (err == -EAGAIN && ++tries < 100);
	if (err && err != -ENOENT && err != -ESRCH)	/* these: it has ended, which comes next */
		note("game: BPF cannot be told what process %d is: %s", s->pid, strerror(-err));
	s->class = class;
	st.roles_changed = true;
	__atomic_fetch_add(&st.skel->data->class_gen, 1, __ATOMIC_RELEASE);
}

/* A server gets its class here; the game's is game_switch()'s. */
static void slot_serve(struct game_slot *s)
{
	u8 class = comm_class(s->comm);
	struct game_slot *o, *least = s;
	u32 servers = 0;

	/* it flips, or the game is connected to it; a program that is a game says more */
	if (class == CLASS_OTHER && (s->seen.is & (T(FLIPS) | T(SHOWS))) && !game_plays(&s->seen))
		class = CLASS_COMPOSITOR;
	for (o = game.slot; o < game.slot + GAME_SLOTS; o++)
		if (o->pid && o->class > CLASS_GAME) {
			servers++;
			least = slot_rank(o) < slot_rank(least) ? o : least;
		}
	if (class != CLASS_OTHER && s->class == CLASS_OTHER && servers >= GAME_SERVERS) {
		game_full("servers", least->pid);
		if (least == s)
			return;
		slot_class(least, CLASS_OTHER);
	}
	slot_class(s, class);
}

/* The highest slot_rank() of the processes that use this ntdll.so; UINT32_MAX where gamer uses it. */
static u32 wine_rank(const struct wine_file *f)
{
	u32 rank = 0, users = 0, i;

	for (i = 0; i < GAME_SLOTS; i++)
		if (game.slot[i].pid && game.slot[i].wine == f) {
			users++;
			rank = MAX(rank, slot_rank(&game.slot[i]));
		}
	return users < f->users ? UINT32_MAX : rank;
}

/* Uprobes for the ntdll.so of a process or, `s` NULL, the distribution, until slot_free(). */
static void wine_attach(struct game_slot *s, int fd, const struct wine_facts *w)
{
	struct wine_file *f, *file = NULL;
	u32 rank = s ? slot_rank(s) : UINT32_MAX, i;

	for (f = wine_files; f < wine_files + WINE_FILES && !(f->users && f->ino == w->ino && f->dev == w->dev); f++)
		if (!file || (file->users && (!f->users || wine_rank(f) < wine_rank(file))))
			file = f;
	if (f < wine_files + WINE_FILES) {
		file = f;
	} else if (file->users) {
		if (s)
			game_full("files of Wine", s->pid);
		if (wine_rank(file) >= rank)
			return;
		for (i = 0; i < GAME_SLOTS; i++)
			if (game.slot[i].wine == file)
				game.slot[i].wine = NULL;
		file->users = 0;
	}
	if (!file->users++) {
		file->dev = w->dev;
		file->ino = w->ino;
		wine_send(file, fd, w->at);
	}
	if (s)
		s->wine = file;
}

/* Look at all processes: those that came before us, or that no hint told of. */
static void game_scan(void)
{
	game.scan_due_ns = 0;
	game.scanned_at_ns = now_ns();
	reader.scan = !game.blind;
}

/*
 * A game may run that no hint told of, so all processes are looked at soon. The cost grows with their
 * number, so the looks are GAME_POLL_NS apart, whatever asks for them.
 */
static void game_scan_soon(void)
{
	if (!game.scan_due_ns)
		game.scan_due_ns = MAX(now_ns(), game.scanned_at_ns + GAME_POLL_NS);
}

/* Why a process has its score, in words. */
static void game_why(const struct seen *seen, char *text, size_t size)
{
	u32 traits = seen->is | seen->does, i;
	size_t n = 0;

	snprintf(text, size, "it does nothing now");
	for (i = 0; i < TRAIT_NR && n < size; i++)
		if (traits & (1u << i))
			n += snprintf(text + n, size - n, "%s%s", n ? ", " : "", game_traits[i].text);
}

/* From now on this process is the game, or none is. */
static void game_switch(struct game_slot *s)
{
	bool ended = game.now && !slot_alive(game.now);
	struct game_slot *o;
	char why[512];

	/* before class_gen moves: a thread that then looks again must find the new game */
	st.skel->bss->game_tgid = s ? s->pid : 0;
	if (game.now)
		slot_class(game.now, CLASS_OTHER);
	game.now = s;
	game.since_ns = now_ns();
	game.first_frame = st.skel->bss->frames_logged;
	for (o = game.slot; o < game.slot + GAME_SLOTS; o++)
		o->ahead_ns = 0;
	if (s) {
		s->was = 1;
		game.detected_us = s->hint_at_ns ? (now_ns() - s->hint_at_ns) / NSEC_PER_USEC : 0;
		slot_class(s, CLASS_GAME);
		slot_due(s, 0);
		for (o = game.slot; o < game.slot + GAME_SLOTS; o++)
			if (o->pid && o->known && o != s)
				slot_serve(o);
		if (game.full)
			game_scan_soon();	/* for its user's servers */
		game_why(&s->seen, why, sizeof(why));
		note("game: %d %s (score %d: %s)", s->pid, s->comm, game_score(&s->seen), game.wanted ? "--game" : why);
	} else {
		note(ended ? "the game has ended" : "game: none");
	}
	threads_each(NULL, NULL);
}

static bool slot_descends(const struct game_slot *s, s32 pid)
{
	u32 i;

	for (i = 0; i < ANCESTORS && s->above[i]; i++)
		if (s->above[i] == pid)
			return true;
	return false;
}

/*
 * Has the user turned to this process from the game, where the score is the same? Either draws on behind the other,
 * and no keyboard tells which is played. Whoever began to draw since the other is the game, and no gamepad was read
 * for that one since, is what was started or gone back to last: another game than that, or one that was the game
 * before. What comes with a game, a helper or a launcher that stays, belongs to the same start; of Wine's programs
 * without a launcher that is not known.
 */
static bool slot_turned_to(const struct game_slot *s, const struct game_slot *g)
{
	bool related = slot_descends(s, g->pid) || slot_descends(g, s->pid) ||
		       (s->launch == g->launch && (s->launch || (s->seen.is & g->seen.is & T_WINE)));

	/* looks are so far apart: what drew before gamer looked first may be seen that much later */
	return (s->seen.does & T(DRAWS)) && s->began_ns > game.since_ns + GAME_POLL_NS && g->input_at_ns < s->began_ns &&
	       !related && (s->was || (s->launch && g->launch));
}

/* Does this process take the place of the game? gamer asks that of a process as long as it could be one. */
static bool slot_takes_over(struct game_slot *s, u64 now)
{
	const struct game_slot *g = game.now;
	s32 score = game_score(&s->seen), other = game_score(&g->seen);

	if (comm_class(g->comm) || !game_stands(g))
		return true;
	/* a game that somebody named wins while it lives */
	if (g->seen.is & T_TOLD)
		return false;
	if ((s->seen.is & T_TOLD) || (slot_descends(s, g->pid) && score > other))
		return true;
	if (now - g->frame_at_ns >= GAME_STILL_NS && !(g->seen.does & T(PLAYS)) &&
	    (s->seen.does & (T(DRAWS) | T(PLAYS))))
		return true;
	if (score < other + (slot_turned_to(s, g) ? 0 : GAME_MARGIN)) {
		s->ahead_ns = 0;
		return false;
	}
	s->ahead_ns = s->ahead_ns ? s->ahead_ns : now;
	return now - s->ahead_ns >= GAME_HOLD_NS;
}

static bool slot_may_play(const struct game_slot *s)
{
	return s->pid && s->known && s->class <= CLASS_GAME && !comm_class(s->comm);
}

/*
 * The process with the highest score beside the game: of the processes that could take the game's place now
 * (`plays`), or of all that do what games do. Of two with the same score, the one that the other has started.
 */
static struct game_slot *game_best(bool plays)
{
	struct game_slot *s, *best = NULL;
	s32 ahead;

	for (s = game.slot; s < game.slot + GAME_SLOTS; s++) {
		if (s == game.now || !slot_may_play(s) ||
		    !(plays ? game_plays(&s->seen) && (!game.now || s->uid == game.now->uid) :
			      s->frame_at_ns || s->seen.does))
			continue;
		ahead = best ? game_score(&s->seen) - game_score(&best->seen) : 1;
		if (ahead > 0 || (!ahead && slot_descends(s, best->pid)))
			best = s;
	}
	return best;
}

/* The process that is to be the game; NULL: none. */
static struct game_slot *game_pick(u64 now)
{
	struct game_slot *best = game_best(true);

	if (!game.now || (best && slot_takes_over(best, now)))
		return best;
	return comm_class(game.now->comm) || !game_stands(game.now) ? NULL : game.now;
}

static void game_choose(void)
{
	struct game_slot *next;
	u64 now = now_ns();

	if (!game.now && now < game.rests_until_ns) {
		game.judge_due_ns = game.rests_until_ns;
		return;
	}
	/* while all are being looked at, the first that is found need not be the best */
	if (game.wanted || (!game.now && scanning() && now - game.scanned_at_ns < GAME_POLL_NS))
		return;
	next = game_pick(now);
	if (next == game.now)
		return;
	/* it may be another program, or have got parts or a control group of its own, since it was looked at */
	if (next && !children.refused && now - next->told_at_ns > LOOK_AGAIN_NS) {
		slot_due(next, 0);
		return;
	}
	game_switch(next);
	if (!next)
		game_choose();	/* another user's may be one now */
}

/* What a process does now, as BPF has counted it. */
static void slot_does(struct game_slot *s, const struct activity *a, u64 now)
{
	s->seen.does = activity_traits(a, now);
	s->frame_at_ns = a->frame_at_ns;
	s->input_at_ns = a->input_at_ns;
	if (now - a->frame_at_ns >= GAME_STILL_NS)
		s->began_ns = 0;
	else if (!s->began_ns && (s->seen.does & T(DRAWS)))
		s->began_ns = now;
}

/* Looks at what all processes do now. True: a process other than the game may become the game by that. */
static bool game_look(void)
{
	struct game_slot *s;
	bool others = false;
	struct activity a;
	u64 now;

	for (s = game.slot; s < game.slot + GAME_SLOTS; s++) {
		if (!s->pid)
			continue;
		if (bpf_map_lookup_elem(bpf_map__fd(st.skel->maps.activities), &s->pidfd, &a))
			memset(&a, 0, sizeof(a));	/* it did nothing yet */
		now = now_ns();		/* behind the look: a frame that came later would seem to be ages old */
		slot_does(s, &a, now);
		others |= s != game.now && slot_may_play(s) && game_stands(s) &&
			  ((s->seen.does & T(PLAYS)) ||
			   (a.frame_at_ns && now - a.frame_at_ns < GAME_STILL_NS));
	}
	return others;
}

/*
 * The game's display: a process that serves it is its compositor, though no hook sees page flips and no table
 * has the name. A game connects when it opens its window, so gamer looks more than once.
 */
static void slot_shows(struct game_slot *g, s32 pid)
{
	struct game_slot *s;

	if (pid <= 0 || pid == g->pid) {
		if (g->looks < DISPLAY_LOOKS)
			slot_due(g, LOOK_SOON_NS << g->looks++);
		return;
	}
	s = slot_find(pid) ? : slot_add(pid);
	if (!s || s->shows)
		return;
	s->shows = 1;
	slot_due(s, 0);
}

/* The child has looked at a process: takes what it has found. */
static void slot_told(struct game_slot *s, const struct facts *f, int fd)
{
	if (!slot_alive(s))
		return;		/* its exit is about to be told */
	/* /proc tells nothing once the first thread has ended, and others may run: what was known stays */
	if (!(f->traits & T(NOTHING)) || !s->known) {
		s->seen.is = f->traits | (s->shows ? T(SHOWS) : 0);
		/* who flips pages and serves nobody is alone on the screen: a kiosk's game, and no compositor */
		if (s->hints & HINT_FLIP)
			s->seen.is |= f->display == 0 ? T(FULL) : T(FLIPS);
		st.roles_changed |= s->uid != f->uid;	/* whom it is served by may change */
		s->uid = f->uid;
		s->launch = f->launch;
		memcpy(s->above, f->above, sizeof(s->above));
	}
	memcpy(s->comm, f->comm, sizeof(s->comm));
	s->known = 1;
	if (s->again)
		slot_due(s, s->again-- > 1 ? LOOK_SOON_NS : LOOK_AGAIN_NS);
	if (fd >= 0 && !s->wine)
		wine_attach(s, fd, &f->wine);
	if (s == game.now)
		slot_shows(s, f->display);
	else
		slot_serve(s);
	game.judge_due_ns = now_ns();
}

/* One answer of the child that reads. */
static void reader_told(const struct facts *f, int fd)
{
	struct order o = reader.order;
	struct game_slot *s = slot_find(f->pid);

	if (f->last) {
		reader.order.look = LOOK_NOTHING;
		reader.deadline_ns = 0;
	}
	if (o.look == LOOK_PROCESS && s && s->asked) {
		s->asked = 0;
		s->told_at_ns = now_ns();
		slot_told(s, f, fd);
	} else if (o.look == LOOK_ALL && f->last && !reader.scan) {
		reader.scan = f->pid;
	} else if (o.look == LOOK_ALL && !f->last && !s && (s = slot_add(f->pid))) {
		s->again = 2;
		slot_told(s, f, -1);
		slot_due(s, 0);
	} else if (o.look == LOOK_FILE && fd >= 0) {
		wine_attach(NULL, fd, &f->wine);
	}
	game_choose();
}

/*
 * The child hangs or has died: what it showed is skipped from now on, and what it was asked is
 * asked of another child. A few may hang for good; then the others read only what cannot hang.
 */
static void reader_lost(bool reaped)
{
	struct shown *w = reader.shown;
	struct order o = reader.order;
	struct game_slot *s = slot_find(o.pid);

	child_leave(&reader.child, reaped);
	reader.order.look = LOOK_NOTHING;
	reader.deadline_ns = 0;
	if (children.lost >= READ_LOST && !w->safe)
		note("game: %u children hang while they read other processes: gamer reads no environments now",
		     children.lost);
	w->safe = children.lost >= READ_LOST;
	if (!o.look)
		return;
	if (w->turn == reader.asked_turn) {	/* it showed nobody: again, but not at once */
		if (o.look == LOOK_ALL)
			game_scan_soon();
		else if (o.look == LOOK_PROCESS && s && s->asked)
			slot_due(s, READ_NS);
		return;
	}
	w->skip[w->skipped % READ_SKIP].start = w->start;
	w->skip[w->skipped % READ_SKIP].uid = w->uid;
	w->skip[w->skipped++ % READ_SKIP].pid = w->pid;
	reader.hung += w->pid > 0;
	if (w->pid > 0)
		note("game: %d %s cannot be read, for its memory is locked: gamer does without its environment",
		     w->pid, w->name);
	else
		note("game: %s cannot be read in time: gamer does without it", w->name);
	if (o.look == LOOK_ALL && !reader.scan)
		reader.scan = w->pid;
	else if (o.look == LOOK_PROCESS && s && s->asked)
		slot_due(s, 0);
}

static void reader_take(void)
{
	int fds[MESSAGE_FILES], left = READ_AT_ONCE;
	struct facts f;
	ssize_t n = -1;

	while (reader.child.pid && left-- &&
	       (n = message_receive(reader.child.fd, &f, sizeof(f), fds, MSG_DONTWAIT)) == sizeof(f)) {
		reader_told(&f, fds[0]);
		fd_close(fds[0]);
	}
	if (reader.child.pid && n != sizeof(f) && (n >= 0 || errno != EAGAIN))
		reader_lost(false);
}

/* A child that has not moved on hangs, unless it had no CPU. */
static void reader_check(void)
{
	if (!reader.deadline_ns || now_ns() < reader.deadline_ns)
		return;
	reader.deadline_ns = 0;
	reader_take();
	if (!reader.order.look || !reader.child.pid)
		return;
	if (reader.turn == reader.shown->turn && proc_stat(reader.child.pid).state != 'R') {
		reader_lost(false);
		return;
	}
	reader.turn = reader.shown->turn;
	reader.deadline_ns = now_ns() + READ_NS;
}

/*
 * Starts the children that do not run. While uprobes come or go, a fork may wait in the kernel: then
 * the children start later. False: the child that reads does not run.
 */
static bool children_start(void)
{
	if (wine.pending || children.unprobing)
		return reader.child.pid;
	if (!wine.child.pid && !wine.ended && bpf_program__fd(st.skel->progs.wine_set_thread) >= 0)
		child_start(&wine.child, EV_WINE, 0, wine_work);
	return reader.child.pid || child_start(&reader.child, EV_READER, caps_for(CAP_READ), reader_work);
}

/* Gives the child its next order. Orders for one process take turns with those for files and for all. */
static void reader_next(void)
{
	struct game_slot *s, *first = NULL;
	struct order o = { 0 };
	static bool many;
	u64 now = now_ns();

	if (reader.order.look || reader.deadline_ns)
		return;
	for (s = game.slot; s < game.slot + GAME_SLOTS; s++)
		if (s->pid && s->due_ns && s->due_ns <= now && (!first || s->due_ns < first->due_ns))
			first = s;
	many = !first || !many;
	if (many && reader.row < ARRAY_SIZE(wine_dirs))
		o = (struct order){ .look = LOOK_FILE, .pid = reader.row };
	else if (many && reader.scan)
		o = (struct order){ .look = LOOK_ALL, .pid = reader.scan };
	else if (first)
		o = (struct order){ LOOK_PROCESS, first->pid, first->wine ? 0 : first == game.now ? 2 : 1,
				    .display = first == game.now || (first->hints & HINT_FLIP) };
	else
		return;
	reader.deadline_ns = now + READ_NS;
	if (!children_start())
		return;		/* then again */
	reader.turn = reader.asked_turn = reader.shown->turn;
	if (!message_send(reader.child.fd, &o, sizeof(o), NULL, 0, MSG_DONTWAIT)) {
		reader_lost(false);
		return;
	}
	reader.order = o;
	if (o.look == LOOK_FILE)
		reader.row++;
	else if (o.look == LOOK_ALL)
		reader.scan = 0;
	else
		first->due_ns = 0;
	if (o.look == LOOK_PROCESS)
		first->asked = 1;
}

/* A child has ended: one that was left behind, or one that should still run. */
static void children_reap(void)
{
	s32 pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		if (pid == reader.child.pid) {
			reader_lost(true);
		} else if (pid == wine.child.pid) {
			wine_ended(true);
		} else {
			children.lost--;
			children.unprobing = pid == children.unprobing ? 0 : children.unprobing;
		}
	}
	if (reader.shown)
		reader.shown->safe = children.lost >= READ_LOST;
	if (!reader.order.look)
		reader.deadline_ns = 0;		/* one may be started now */
}

/* BPF may have lost hints: the game may be among them. */
static void game_lost(void)
{
	u64 lost = cpu_sum(offsetof(struct cpu_state, lost[EVENT_GAME]));

	if (lost != game.lost)
		game_scan_soon();
	game.lost = lost;
}

static void slot_exited(struct game_slot *s)
{
	bool was_game = s == game.now;

	/* an event of an earlier process in this slot may still have been under way */
	if (!s->pid || slot_alive(s))
		return;
	if (was_game) {
		game.wanted = 0;	/* it is over, also after a restart by hotplug */
		game_switch(NULL);
	}
	slot_free(s);
	if (was_game) {
		game_scan_soon();
		/* others may be ending with it, and seem to draw until they have */
		game.judge_due_ns = game.rests_until_ns = now_ns() + JUDGE_NS;
	}
}

static void game_looks(void)
{
	u64 now = now_ns();

	if (game.check_due_ns && game.check_due_ns <= now) {
		game.check_due_ns = 0;
		game_lost();
	}
	if (game.judge_due_ns && game.judge_due_ns <= now) {
		/* who plays? again soon, while anyone but the game may */
		game.judge_due_ns = game_look() ? now + JUDGE_NS : 0;
		game_choose();
	}
	if (st.hook_why[HOOK_GAME])	/* nobody tells of programs that start */
		game_scan_soon();
	if (game.scan_due_ns && game.scan_due_ns <= now && !scanning())
		game_scan();
	if (wine.pending && !wine.told && now >= wine.since_ns + READ_NS) {
		wine.told = true;
		note("wine: a process that has mapped ntdll.so has its memory locked: until that process "
		     "ends, this machine starts no other process");
	}
	reader_check();
}

/* A timer or a child has ended, an answer has come or a process has exited: the child may have its next order. */
static void game_goes_on(void)
{
	if (!st.skel)
		return;		/* between a failure and the next start */
	reader_next();
	timer_arm();
}

/* BPF saw a process do what a game or its servers do. */
static void game_hint(const struct event_game *e)
{
	struct game_slot *s = slot_find(e->tgid);

	if (!e->tgid || game.blind)
		return;
	if (s)
		slot_exited(s);		/* its number may belong to another by now */
	s = slot_find(e->tgid) ? : slot_add(e->tgid);
	if (!s && errno != ESRCH)
		game_scan_soon();
	/* what BPF loses after this hint it loses within a second, and wakes nobody for it */
	game.check_due_ns = now_ns() + LOOK_AGAIN_NS + LOOK_SOON_NS;
	if (s && e->what != HINT_NAME)
		game.judge_due_ns = now_ns();
	timer_arm();
	/* a name comes again when another program took over the process */
	if (!s || !((e->what & HINT_NAME) || (e->what & ~s->hints)))
		return;
	if (!s->hint_at_ns)
		s->hint_at_ns = e->at_ns;
	s->hints |= e->what;
	s->again = 2;
	slot_due(s, 0);
	game_goes_on();
}

/* --game must name a process; asked before anything is attached. */
static void game_check_option(void)
{
	s32 pid = args.run.game;
	int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	game.wanted = pid;
	game.blind = pids_are_other();
	if (pid && game.blind)
		die(EX_UNAVAILABLE, "--game: gamer runs in a PID namespace (a container), where BPF has other numbers "
		    "for processes");
	if (pid && fd < 0)
		die(EX_NOINPUT, "--game: no process has the number %d", pid);
	fd_close(fd);
}

/* After attach: servers and games that run already. */
static void game_open(void)
{
	struct game_slot *s;

	if (!reader.shown)
		reader.shown = mmap(NULL, sizeof(*reader.shown), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reader.shown == MAP_FAILED)
		die(EX_OSERR, "no memory to share with a child");
	wine.ended = wine.told = false;
	reader.row = 0;
	game_scan();
	s = game.wanted ? slot_add(game.wanted) : NULL;
	if (s) {
		read_file(s->comm, sizeof(s->comm), "/proc/%d/comm", s->pid);
		s->again = 2;
		game_switch(s);
	} else if (game.wanted) {
		note("--game: process %d has ended", game.wanted);
		game.wanted = 0;
	}
	game_goes_on();
}

static void game_close(void)
{
	struct game_slot *s;

	child_leave(&reader.child, false);
	wine_leave(false);
	for (s = game.slot; s < game.slot + GAME_SLOTS; s++)
		if (s->pid)
			slot_free(s);
	memset(wine_files, 0, sizeof(wine_files));
	reader.order.look = LOOK_NOTHING;
	reader.deadline_ns = 0;
	timer_set(EV_GAME, 0, 0);
	game.now = NULL;
}

/* Prints a process and its score: as JSON where `j` is not NULL, else as text to `o`. */
static void slot_print(struct out *o, struct json *j, const char *what, const struct game_slot *s)
{
	s32 score = game_score(&s->seen);
	char why[512] = "--game";

	if (!game.wanted || s != game.now)
		game_why(&s->seen, why, sizeof(why));
	if (!j) {
		out_f(o, "%s%d %s (score %d: %s)", what, s->pid, s->comm, score, why);
		return;
	}
	json_open(j, what, '{');
	json_f(j, "pid=%u comm=%s score=%.0f why=%s}", s->pid, s->comm, (double)score, why);
}

static void game_print(struct out *o, struct json *j)
{
	const struct game_slot *next;

	game_look();
	next = game_best(false);
	if (game.now)
		slot_print(o, j, j ? "game" : "game: ", game.now);
	else if (!j)
		out_f(o, "game: none");
	if (next)
		slot_print(o, j, j ? "game_next" : " before ", next);
	if (!j)
		out_f(o, "\n");
}

/* ======== 16. fair back end ========================================================= */

/*
 * Where gamer does not schedule, gamer advises the scheduler that does: a thread's role gives the thread
 * a nice value and a slice. BPF tells when a role has changed. What such a record says does not count, for
 * records come late or are lost: gamer looks at all threads then, and compares with its list. So no change
 * is missed, and a role that wavers costs one call a look.
 *
 * The list is a file in the runtime directory too. A thread is written there before it is touched, and
 * from there alone threads are put back: by gamer's end, however it comes, by the next start, and by
 * `gamer restore`. A thread that does not have what gamer gave it belongs to whoever changed it.
 */

#define FAIR_THREADS	8192		/* the list's room */
#define FAIR_RESET_ON_FORK 1		/* SCHED_FLAG_RESET_ON_FORK */
#define FAIR_PAUSE_NS	(20 * NSEC_PER_MSEC)	/* between two looks, at least, */
#define FAIR_REST	10		/* and so many times what a look took */
#define FAIR_SHARE	500		/* looks take this part of a CPU, */
#define FAIR_BURST_NS	(50 * NSEC_PER_MSEC)	/* and at once no more than that */
#define FAIR_WAIT_NS	(10 * NSEC_PER_SEC)	/* the next is put off no longer: stolen time counts, too */
#define FAIR_WEIGHT	8		/* times the weight that the game's cgroup had */
#define FAIR_GROUP_NICE	-9		/* of its autogroup: about as much */
#define CGROUPS		"/sys/fs/cgroup"
#define FAIR_TICK_NS	(NSEC_PER_SEC / 100)	/* the unit of starts in /proc */

/*
 * A role's advice. The slice counts where a thread wakes and where its turn ends; 0: the kernel's own. The nice
 * values are as small as the figures allow, for the kernel also spreads other work by them: with -15 to -19 for all
 * that makes frames, a CPU with the game's threads got so little other work that a browser's wakeups on the other
 * one came 1.3 times as late. Less for sound cost dropouts, less for workers frames (RESULTS.md). Threads that do not
 * sleep have theirs while they leave a CPU: a game with more loads, and no frame waits for one of many.
 * `realtime` 1: with --realtime such a thread may have SCHED_FIFO.
 */
static const struct { int8_t nice; u32 slice_us; u8 realtime; } fair_advice[ROLE_NR] = {
	[ROLE_INPUT] = { -15, 100, 1 },
	[ROLE_AUDIO] = { -15, 100, 1 },
	[ROLE_GPU] = { -10, 100, 1 },
	[ROLE_RENDER] = { -8, 100 },
	[ROLE_COMPOSITOR] = { -10, 100 },
	[ROLE_NETWORK] = { -8, 100 },
	[ROLE_PHYSICS] = { -8, 100 },
	[ROLE_WORKER] = { -8, 100 },
	[ROLE_CPU_BOUND] = { -12, 0 },
};

/* The kernel's structure, in its first version. */
struct sched_attr {
	u32 size;
	u32 sched_policy;
	u64 sched_flags;
	s32 sched_nice;
	u32 sched_priority;
	u64 sched_runtime, sched_deadline, sched_period;
};

/* What sched_setattr() sets of a thread. */
struct fair_attr {
	int8_t nice;
	u8 policy;
	u8 priority;		/* of SCHED_FIFO */
	u8 fork;		/* 1: what it starts begins without these values */
	u32 slice_us;		/* 0: the kernel's own */
};

enum fair_state {
	FAIR_HELD,		/* it has what it should have */
	FAIR_TO_SET,
	FAIR_THEIRS,		/* somebody else has changed it: it is left alone while it lives */
};

struct fair_thread {
	u64 start;		/* in ticks after boot: with tid, what no other thread has */
	u32 tid, tgid;
	struct fair_attr was;
	struct fair_attr is, then;	/* what gamer gives it, and gave it before: one of both it has */
	u8 role;		/* enum role that the advice is for */
	u8 state;		/* enum fair_state */
	u8 realtime;		/* 1: its bursts are short enough for SCHED_FIFO */
	u8 seen;		/* 1: this look has seen it, 0: it is to have back what it had; fair_row() */
	u8 pad[4];
};
_Static_assert(sizeof(struct fair_thread) == 48, "file");

/* Where nice ranks among the game's own threads only, the group of the game gets a weight too. */
enum fair_group_kind { FAIR_NO_GROUP, FAIR_AUTOGROUP, FAIR_CGROUP };
struct fair_group {
	u64 start;		/* of the game */
	u32 pid;		/* the game, 0: none */
	u32 kind;		/* enum fair_group_kind */
	s32 was, is;		/* nice value of the autogroup, cpu.weight of the cgroup */
	char path[232];		/* of the cgroup, below CGROUPS */
};
_Static_assert(sizeof(struct fair_group) == 256, "file");

/* The list, as the file has it. */
static struct fair_list {
	char magic[8];
	u32 crc;		/* of all behind it */
	u32 nr;
	char boot[40];		/* the kernel's name for this boot: starts count from there */
	struct fair_group group;
	struct fair_thread thread[FAIR_THREADS];	/* by tid; behind fair.known, those that a look has found */
} fair_list;
#define FAIR_MAGIC	"GAMERF1\n"
#define FAIR_HEAD	offsetof(struct fair_list, thread)

static struct fair {
	bool slices;		/* the kernel has slices; fair_probe() */
	u32 slice_us;		/* its own; fair_probe() */
	u32 known;		/* threads of the list that lie in order; fair_look() */
	u32 busy;		/* threads of the game and its servers that do not sleep; fair_row() */
	bool loads;		/* they are enough for all CPUs; fair_look() */
	u64 due_ns;		/* no look before; fair_look() */
	u64 spent_ns, spent_at_ns;	/* what looks took of their share by then; fair_look() */
	u64 looks, calls, cpu_ns, theirs, full;	/* sums */
	char limit[320];	/* what limits the effect; fair_group_look() */
	int refused;		/* errno of the last call that failed, 0: none */
} fair;

/* What a thread (0: gamer) has now; false: there is none. */
static bool fair_get(u32 tid, struct fair_attr *a)
{
	struct sched_attr attr = { .size = sizeof(attr) };

	if (syscall(SYS_sched_getattr, tid, &attr, sizeof(attr), 0))
		return false;
	*a = (struct fair_attr){
		.nice = attr.sched_nice, .policy = attr.sched_policy, .priority = attr.sched_priority,
		.fork = attr.sched_flags & FAIR_RESET_ON_FORK,
		.slice_us = fair.slices && (attr.sched_policy == SCHED_OTHER || attr.sched_policy == SCHED_BATCH) ?
			    attr.sched_runtime / NSEC_PER_USEC : 0,
	};
	if (a->slice_us == fair.slice_us)
		a->slice_us = 0;
	return true;
}

static bool fair_set(u32 tid, const struct fair_attr *a)
{
	struct sched_attr attr = {
		.size = sizeof(attr), .sched_policy = a->policy, .sched_nice = a->nice,
		.sched_priority = a->priority, .sched_flags = a->fork ? FAIR_RESET_ON_FORK : 0,
		.sched_runtime = fair.slices ? a->slice_us * NSEC_PER_USEC : 0,
	};

	fair.calls++;
	if (!syscall(SYS_sched_setattr, tid, &attr, 0))
		return true;
	if (errno != ESRCH)
		fair.refused = errno;
	return false;
}

static bool fair_same(const struct fair_attr *a, const struct fair_attr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Does the kernel take a slice? Only a try tells; it is gamer's own that is tried, and put back. */
static void fair_probe(void)
{
	struct fair_attr was, is;

	fair.slices = true;
	fair.slice_us = 0;
	if (!fair_get(0, &was))
		return;
	is = was;
	is.slice_us = 777;
	fair.slices = fair_set(0, &is) && fair_get(0, &is) && is.slice_us == 777;
	was.slice_us = 0;
	if (fair.slices && fair_set(0, &was) && fair_get(0, &is))
		fair.slice_us = is.slice_us;
	fair.calls = 0;
}

/*
 * Puts a thread back, value by value: what is not gamer's any more stays. A thread that has become a
 * real-time thread meanwhile is left as it is. A nice value between gamer's and the thread's own does not
 * stay: a user may raise the value of a thread of his, and would keep the rest of what gamer gave.
 */
static void fair_undo(const struct fair_thread *t)
{
	struct fair_attr now, to;

	if (proc_stat(t->tid).start != t->start || !fair_get(t->tid, &now))
		return;
	to = now;
	if (now.policy != t->is.policy && now.policy != t->then.policy && now.policy != SCHED_OTHER &&
	    now.policy != SCHED_BATCH && now.policy != SCHED_IDLE)
		return;
	if (now.nice < t->was.nice && now.nice >= MIN(t->is.nice, t->then.nice))
		to.nice = t->was.nice;
#define BACK(value)								\
	if (now.value == t->is.value || now.value == t->then.value)		\
		to.value = t->was.value
	BACK(policy);
	BACK(priority);
	BACK(fork);
	BACK(slice_us);
#undef BACK
	if (fair_same(&to, &now))
		return;
	/* the kernel takes no nice value together with SCHED_IDLE */
	if (to.policy == SCHED_IDLE) {
		to.policy = SCHED_OTHER;
		fair_set(t->tid, &to);
		to.policy = SCHED_IDLE;
	}
	fair_set(t->tid, &to);
}

static bool fair_descends(s32 pid, s32 from)
{
	u32 depth = 0;

	while (pid > 1 && pid != from && depth++ < 64)
		pid = proc_stat(pid).parent;
	return pid == from;
}

/* The cgroup of a process that has weights, as a path below CGROUPS. "": it is in none. */
static void fair_cgroup(s32 pid, char *path, size_t size)
{
	const char *all = proc_cgroup2(pid);
	char file[320], *at;

	path[0] = 0;
	if (!all || strlen(all) >= size)
		return;
	snprintf(path, size, "%s", all);
	for (;;) {
		snprintf(file, sizeof(file), CGROUPS "%s/cpu.weight", path);
		at = strrchr(path, '/');
		if (!access(file, F_OK) || !at)
			return;
		*at = 0;
	}
}

/* The autogroup (session) of a process, as /proc names it; its nice value is behind it. "": it has none. */
static void fair_autogroup(s32 pid, char *path, size_t size)
{
	read_file(path, size, "/proc/%d/autogroup", pid);
	path[strcspn(path, " ")] = 0;
}

static bool fair_member(const struct fair_group *g, s32 pid)
{
	char path[sizeof(g->path)] = "";

	if (g->kind == FAIR_CGROUP)
		fair_cgroup(pid, path, sizeof(path));
	else
		fair_autogroup(pid, path, sizeof(path));
	return !strcmp(path, g->path);
}

/*
 * A process of the group other than the game; 0: there is none. `strange`: one that has neither started the game nor
 * was started by it, and is neither gamer nor gamer's child.
 */
static s32 fair_other(const struct fair_group *g, bool strange)
{
	struct dir d;
	s32 pid;

	for (dir_open(&d, "/proc"); (pid = dir_number(&d)) >= 0; )
		if (pid != (s32)g->pid && fair_member(g, pid) &&
		    !(strange && (pid == st.pid || proc_stat(pid).parent == st.pid ||
				  fair_descends(pid, g->pid) || fair_descends(g->pid, pid))))
			break;
	dir_close(&d);
	return MAX(pid, 0);
}

/* The value of a group now; INT_MIN: there is none. */
static s32 fair_group_get(const struct fair_group *g)
{
	char line[64], *at;

	if (g->kind == FAIR_CGROUP)
		return read_file(line, sizeof(line), CGROUPS "%s/cpu.weight", g->path) > 0 ? atoi(line) : INT_MIN;
	read_file(line, sizeof(line), "/proc/%u/autogroup", g->pid);
	at = strstr(line, " nice ");
	return at ? atoi(at + 6) : INT_MIN;
}

/*
 * Files of groups belong to their users, so gamer needs CAP_DAC_OVERRIDE there, and for a moment. Without
 * CAP_SYS_ADMIN the kernel takes one autogroup's nice value each 100 ms.
 */
static bool fair_group_set(const struct fair_group *g, s32 value)
{
	u64 run = caps_get(true);
	char path[320], text[16];
	int fd, n, i = 0;
	bool done;

	if (g->kind == FAIR_CGROUP)
		snprintf(path, sizeof(path), CGROUPS "%s/cpu.weight", g->path);
	else
		snprintf(path, sizeof(path), "/proc/%u/autogroup", g->pid);
	caps_set(run | caps_for(CAP_FILES) | caps_for(CAP_START), caps_get(false));
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	n = snprintf(text, sizeof(text), "%d", value);
	while (!(done = fd >= 0 && write(fd, text, n) == n) && fd >= 0 && errno == EAGAIN && i++ < 6)
		poll(NULL, 0, 20);
	caps_set(run, caps_get(false));
	fd_close(fd);
	return done;
}

/* The game's group gets back what it had, if it still has what gamer gave it; also where only others are left there. */
static void fair_group_undo(struct fair_group *g)
{
	if (g->kind == FAIR_AUTOGROUP && (proc_stat(g->pid).start != g->start || !fair_member(g, g->pid))) {
		g->pid = 0;
		g->pid = fair_other(g, false);
	}
	if (g->kind && (g->kind == FAIR_CGROUP || g->pid) && fair_group_get(g) == g->is)
		fair_group_set(g, g->was);
	*g = (struct fair_group){ 0 };
}

/*
 * nice ranks within a cgroup that has a weight, or within an autogroup (a session). Where the game is alone
 * there, its group gets a weight. Where others are there too, they would get it with the game: then gamer
 * says what limits its effect. Returns whether a group is to be set.
 */
static bool fair_group_look(struct fair_group *g, s32 pid)
{
	bool alone;

	*g = (struct fair_group){ .pid = pid, .start = pid ? proc_stat(pid).start : 0 };
	fair.limit[0] = 0;
	if (!pid)
		return false;
	fair_cgroup(pid, g->path, sizeof(g->path));
	if (g->path[0]) {
		g->kind = FAIR_CGROUP;
	} else if (read_num(0, "/proc/sys/kernel/sched_autogroup_enabled")) {
		g->kind = FAIR_AUTOGROUP;
		fair_autogroup(pid, g->path, sizeof(g->path));
	}
	if (!g->kind || (g->was = fair_group_get(g)) == INT_MIN) {
		g->kind = FAIR_NO_GROUP;
		return false;
	}
	alone = !fair_other(g, true);
	if (!alone)
		text_f(fair.limit, sizeof(fair.limit), "nice values rank within the game's %s only, where others are "
		       "too: %s", g->kind == FAIR_CGROUP ? "cgroup" : "session", g->path);
	g->is = g->kind == FAIR_AUTOGROUP ? FAIR_GROUP_NICE : MIN(g->was * FAIR_WEIGHT, 10000);
	/* a group whose weight somebody chose stays */
	if (!alone || g->was != (g->kind == FAIR_AUTOGROUP ? 0 : 100))
		g->kind = FAIR_NO_GROUP;
	return g->kind;
}

static u32 fair_crc(const struct fair_list *l)
{
	return crc32(0, (const u8 *)&l->nr, FAIR_HEAD - offsetof(struct fair_list, nr) + l->nr * sizeof(l->thread[0]));
}

/* Writes the list; false: it cannot be written, and then nothing may be touched. */
static bool fair_save(struct fair_list *l)
{
	const char *path = runtime_path("fair");

	if (!l->nr && !l->group.kind)
		return !unlink(path) || errno == ENOENT;
	memcpy(l->magic, FAIR_MAGIC, sizeof(l->magic));
	read_file(l->boot, sizeof(l->boot), "/proc/sys/kernel/random/boot_id");
	l->crc = fair_crc(l);
	return !file_write(AT_FDCWD, path, l, FAIR_HEAD + l->nr * sizeof(l->thread[0]), false);
}

/* Is this thread of a list one that gamer can have written? */
static bool fair_plausible(const struct fair_thread *t)
{
	const struct fair_attr *a;

	for (a = &t->was; a <= &t->then; a++)
		if (a->nice < -20 || a->nice > 19 || a->slice_us > 100000 || a->fork > 1 ||
		    (a->policy != SCHED_OTHER && a->policy != SCHED_BATCH &&
		     (a == &t->was || a->policy != SCHED_FIFO)) || a->priority > (a->policy == SCHED_FIFO))
			return false;
	return t->start && (s32)t->tid > 0 && (s32)t->tgid > 0;
}

/* Reads the list of a gamer that was killed. NULL, or why the file is none. */
static const char *fair_load(struct fair_list *l)
{
	const char *why = NULL;
	char boot[40];
	struct stat s;
	ssize_t n;
	u32 i;
	int fd;

	l->nr = 0;
	fd = open(runtime_path("fair"), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? NULL : strerror(errno);
	if (fstat(fd, &s) || !S_ISREG(s.st_mode) || s.st_uid != geteuid())
		why = "it is not gamer's";
	n = why ? 0 : read(fd, l, sizeof(*l));
	close(fd);
	if (!why && (n < (ssize_t)FAIR_HEAD || memcmp(l->magic, FAIR_MAGIC, sizeof(l->magic)) ||
		     l->nr > FAIR_THREADS || n != s.st_size ||
		     n != (ssize_t)(FAIR_HEAD + l->nr * sizeof(l->thread[0])) || l->crc != fair_crc(l)))
		why = "it is damaged";
	if (!why && (l->group.kind > FAIR_CGROUP || strnlen(l->group.path, sizeof(l->group.path)) == sizeof(l->group.path) ||
		     strstr(l->group.path, "..") || (l->group.kind == FAIR_CGROUP && l->group.path[0] != '/')))
		why = "it holds what gamer does not write";
	for (i = 0; !why && i < l->nr; i++)
		if (!fair_plausible(&l->thread[i]))
			why = "it holds what gamer does not write";
	read_file(boot, sizeof(boot), "/proc/sys/kernel/random/boot_id");
	if (why || strncmp(l->boot, boot, sizeof(boot)))
		memset(l, 0, FAIR_HEAD);	/* all that ended with its boot */
	return why;
}

/* Puts back all that the file lists, and removes it. Returns the number of threads, -1: it is no list. */
static int fair_restore(void)
{
	struct fair_list *l = &fair_list;
	const char *why = fair_load(l), *path = runtime_path("fair");
	u32 nr = l->nr, i;

	if (why) {
		note("%s: nothing is put back: %s", path, why);
		return -1;
	}
	fair.refused = 0;
	fair_group_undo(&l->group);
	for (i = 0; i < nr; i++)
		fair_undo(&l->thread[i]);
	l->nr = 0;
	if (fair.refused) {
		note("%s: not all is put back: %s", path, strerror(fair.refused));
		return -1;
	}
	unlink(path);
	return nr;
}

/*
 * The role by which a thread is advised. In the game a name is enough: a wrong one costs the game alone. So is
 * what a server's process is for, for its first thread: its others may draw by software, or compile shaders.
 */
static u8 fair_role(const struct thread_row *row)
{
	bool told = row->class == CLASS_GAME || (row->class && row->tid == row->tgid);
	u8 role = told && row->acts_as == ROLE_NONE ? row->role : row->acts_as;

	return role ? role : row->class ? ROLE_WORKER : ROLE_NONE;
}

static int fair_compare(const void *a, const void *b)
{
	return CMP(((const struct fair_thread *)a)->tid, ((const struct fair_thread *)b)->tid);
}

static struct fair_thread *fair_find(u32 tid)
{
	return bsearch(&(struct fair_thread){ .tid = tid }, fair_list.thread, fair.known, sizeof(*fair_list.thread),
		       fair_compare);
}

/*
 * The place in the list of a thread that has none; NULL: it is not for gamer, for it chose its own values, or
 * is none of the kernel's fair scheduler. `t`: the place of another one, which has ended, for its number is reused.
 */
static struct fair_thread *fair_add(struct fair_thread *t, const struct thread_row *row)
{
	struct fair_attr now;

	if (row->own_slice || !fair_get(row->tid, &now) || now.nice ||
	    (now.policy != SCHED_OTHER && now.policy != SCHED_BATCH))
		return NULL;
	if (!t && fair_list.nr == FAIR_THREADS) {
		if (!fair.full++)
			note("fair: more than %d threads of the game and its servers: the rest is not advised",
			     FAIR_THREADS);
		return NULL;
	}
	t = t ? : &fair_list.thread[fair_list.nr++];
	*t = (struct fair_thread){
		.start = row->start_ns / FAIR_TICK_NS, .tid = row->tid, .tgid = row->tgid, .was = now, .is = now,
	};
	return t;
}

static void fair_advise(struct fair_thread *t, u8 role, bool realtime)
{
	t->role = role;
	t->realtime = realtime;
	if (t->state != FAIR_TO_SET)	/* else the list could not be written, and it has what it had */
		t->then = t->is;
	t->is = (struct fair_attr){
		.nice = fair_advice[role].nice, .policy = t->was.policy, .fork = 1,
		.slice_us = fair.slices ? fair_advice[role].slice_us : 0,
	};
	if (realtime)
		t->is = (struct fair_attr){ .policy = SCHED_FIFO, .priority = 1, .fork = 1 };
	t->state = FAIR_TO_SET;
}

/* Takes a thread of a look. A thread of the list may have another role now, or belong to whoever changed it. */
static void fair_row(const struct thread_row *row, void *ctx)
{
	u8 role = fair_role(row) % ROLE_NR;
	bool realtime = st.fair_realtime && fair_advice[role].realtime && !row->overran &&
			row->wakeups >= REALTIME_WAKEUPS && row->burst_ns <= REALTIME_NS / 4;
	const struct game_slot *s = slot_find(row->tgid);
	struct fair_thread *t;
	struct fair_attr now;

	(void)ctx;
	/* who serves another user than the game's serves no game: anybody can take a server's name */
	if ((!fair_advice[role].nice && !fair_advice[role].slice_us) || !s || !game.now ||
	    (s != game.now && user_is_stranger(s->uid, game.now->uid)))
		return;
	if (role == ROLE_CPU_BOUND && row->busy) {
		fair.busy++;
		if (fair.loads)
			return;
	}
	t = fair_find(row->tid);
	if (!t || t->start != row->start_ns / FAIR_TICK_NS)
		t = fair_add(t, row);
	if (!t)
		return;
	t->seen = 1;
	if (t->state == FAIR_THEIRS || (t->role == role && t->realtime == realtime) || !fair_get(t->tid, &now))
		return;
	if (fair_same(&now, t->state == FAIR_TO_SET ? &t->then : &t->is)) {
		fair_advise(t, role, realtime);
		return;
	}
	t->state = FAIR_THEIRS;
	fair.theirs++;
}

/* Lists the threads that have a role now, and those that have none any more. Returns how many are to be changed. */
static u32 fair_plan(void)
{
	struct fair_thread *t;
	u32 todo = 0;

	for (t = fair_list.thread; t < fair_list.thread + fair_list.nr; t++)
		t->seen = 0;
	fair.known = fair_list.nr;
	fair.busy = 0;
	threads_each(fair_row, NULL);
	if (fair.known != fair_list.nr)
		qsort(fair_list.thread, fair_list.nr, sizeof(*t), fair_compare);
	fair.known = fair_list.nr;
	for (t = fair_list.thread; t < fair_list.thread + fair_list.nr; t++)
		todo += !t->seen || t->state == FAIR_TO_SET;
	return todo;
}

/* After the calls: a thread that is still the one that was meant has its values rightly. */
static void fair_verify(const struct thread_row *row, void *ctx)
{
	struct fair_thread *t = fair_find(row->tid);

	(void)ctx;
	if (t && t->start == row->start_ns / FAIR_TICK_NS && t->state == FAIR_TO_SET)
		t->state = FAIR_HELD;
}

/* Is the thread that was meant gone? If another thread has its number by now, that one gets back what it had. */
static bool fair_gone(struct fair_thread *t)
{
	struct fair_attr now;

	if (proc_stat(t->tid).start == t->start) {
		t->state = FAIR_HELD;
		return false;
	}
	if (fair_get(t->tid, &now) && fair_same(&now, &t->is))
		fair_set(t->tid, &t->then);
	return true;
}

/* Does what was planned. True: some threads are on the list no more. */
static bool fair_apply(void)
{
	struct fair_thread *t, *to = fair_list.thread, *end = to + fair_list.nr;
	bool set = false;

	for (t = fair_list.thread; t < end; t++)
		if (!t->seen)
			fair_undo(t);
		else if (t->state == FAIR_TO_SET)
			set |= fair_set(t->tid, &t->is);
	if (set)
		threads_each(fair_verify, NULL);
	for (t = fair_list.thread; t < end; t++)
		if (t->seen && !(t->state == FAIR_TO_SET && fair_gone(t)))
			*to++ = *t;
	fair_list.nr = to - fair_list.thread;
	return to < end;
}

/* Looks at all threads, and does what follows from it. */
static void fair_look(void)
{
	u64 start = clock_ns(CLOCK_THREAD_CPUTIME_ID), cost, now;
	s32 pid = game.now ? game.now->pid : 0;
	static bool told, refused;
	bool group = pid != (s32)fair_list.group.pid, loads;
	u32 cpus = 0, llc;

	fair.looks++;
	if (group) {
		fair_group_undo(&fair_list.group);
		group = fair_group_look(&fair_list.group, pid);
	}
	if (fair_plan() || group) {
		if (fair_save(&fair_list)) {
			if (group && !fair_group_set(&fair_list.group, fair_list.group.is))
				text_f(fair.limit, sizeof(fair.limit), "nice values rank within the game's group only, "
				       "whose weight cannot be set: %s", strerror(errno));
			if (fair_apply())
				fair_save(&fair_list);
		} else if (!told) {
			note("fair: no thread is advised, since the list cannot be written: %s", file_why);
			told = true;
		}
	}
	if (fair.refused && !refused)
		note("fair: the kernel refuses to change some threads: %s", strerror(fair.refused));
	refused |= fair.refused;
	cost = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
	now = now_ns();
	fair.cpu_ns += cost;
	fair.spent_ns -= MIN(fair.spent_ns, (now - fair.spent_at_ns) / FAIR_SHARE);
	fair.spent_ns = MIN(fair.spent_ns + cost, FAIR_BURST_NS + FAIR_WAIT_NS / FAIR_SHARE);
	fair.spent_at_ns = now;
	fair.due_ns = now + MAX(FAIR_PAUSE_NS, FAIR_REST * cost);
	if (fair.spent_ns > FAIR_BURST_NS)
		fair.due_ns += (fair.spent_ns - FAIR_BURST_NS) * FAIR_SHARE;
	for (llc = 0; llc < topo.nr_llcs; llc++)
		cpus += topo.llc_cpus[llc];
	loads = fair.busy >= cpus;
	/* No role tells that a thread sleeps again or has ended: the next look does, which is soon where `loads` is new. */
	st.roles_changed |= loads || fair.loads;
	if (loads && fair.loads)
		fair.due_ns = MAX(fair.due_ns, now + NSEC_PER_SEC);
	fair.loads = loads;
}

/* Once a turn of the loop: looks, or has a timer end for the look, where a role or a class has changed. */
static void fair_turn(void)
{
	u64 now = now_ns();

	if (!st.fair || !st.roles_changed)
		return;
	if (now < fair.due_ns) {
		timer_set(EV_FAIR, fair.due_ns - now, 0);
		return;
	}
	st.roles_changed = false;
	fair_look();
}

/* ======== 17. output ================================================================ */

/* Long-lived buffer of answers to clients and of the status file. */
static struct out answer;

static int cmp_u32(const void *a, const void *b)
{
	return CMP(*(const u32 *)a, *(const u32 *)b);
}

enum { RANK_P50, RANK_P95, RANK_P99, RANK_P999, RANK_MAX, RANKS };

static const struct {
	const char *label, *key;	/* for people; in JSON */
	double part;			/* of the samples that are at or below it */
} ranks[RANKS] = {
	{ "p50", "p50", 0.50 }, { "p95", "p95", 0.95 }, { "p99", "p99", 0.99 },
	{ "p99.9", "p999", 0.999 }, { "max", "max", 1 },
};

/* The frame that MangoHud's fps_metrics takes: the last of the slowest n / of frames, or the slowest. */
static double low_fps(const u32 *sorted_ns, u64 n, u32 of)
{
	return n ? (double)NSEC_PER_SEC / MAX(sorted_ns[n - MAX(n / of, 1U)], 1U) : NAN;
}

/* The game's last FRAME_LOG frames. Without frames all figures are NAN. */
static struct frames {
	double ms[RANKS];		/* nearest-rank percentiles of the times */
	double fps;			/* over the last second of frames */
	double low1, low01;
	u64 n;
	u32 sorted_ns[FRAME_LOG];
} frames;

/* How long frame `i` took; the newest is frames_logged - 1. */
static u32 frame_ns(u64 i)
{
	return st.skel->bss->frame_log_ns[i % FRAME_LOG];
}

static void frames_sum(void)
{
	u64 end = __atomic_load_n(&st.skel->bss->frames_logged, __ATOMIC_ACQUIRE);
	u64 first = MAX(game.first_frame, end > FRAME_LOG ? end - FRAME_LOG : 0), i, ns = 0;

	frames.n = end - first;
	for (i = first; i < end; i++)
		frames.sorted_ns[i - first] = frame_ns(i);
	for (i = end; i > first && ns < NSEC_PER_SEC; i--)
		ns += frame_ns(i - 1);
	frames.fps = ns ? (end - i) * (double)NSEC_PER_SEC / ns : NAN;
	qsort(frames.sorted_ns, frames.n, sizeof(*frames.sorted_ns), cmp_u32);
	for (i = 0; i < RANKS; i++)
		frames.ms[i] = frames.n ? frames.sorted_ns[(u64)ceil(ranks[i].part * frames.n) - 1] / 1e6 : NAN;
	frames.low1 = low_fps(frames.sorted_ns, frames.n, 100);
	frames.low01 = low_fps(frames.sorted_ns, frames.n, 1000);
}

/* The times that some kind of event took. */
struct histogram {
	u64 slot[HIST_SLOTS];		/* events by their time; see hist_slot_us() */
	u64 n;				/* all of them */
	double p50, p99, p999;		/* us: that share of them took less */
};

/* Upper bound of a histogram slot in us; inverse of hist_slot(ns >> shift). */
static double hist_slot_us(u32 slot, u32 shift)
{
	u64 units = slot < 4 ? slot + 1 : ((4 + slot % 4) + 1ULL) << (slot / 4 - 1);

	return (units * 256 << shift) / 1000.0;
}

/* The bound in us under which `share` of the samples lie. */
static double hist_percentile_us(const struct histogram *h, double share, u32 shift)
{
	u64 want = h->n * share, seen = 0;
	u32 i;

	for (i = 0; i < HIST_SLOTS - 1; i++) {
		seen += h->slot[i];
		if (seen > want)
			break;
	}
	return hist_slot_us(i, shift);
}

/* Fills in what follows from the slots. */
static void hist_sum(struct histogram *h, u32 shift)
{
	u32 i;

	for (h->n = i = 0; i < HIST_SLOTS; i++)
		h->n += h->slot[i];
	h->p50 = hist_percentile_us(h, 0.5, shift);
	h->p99 = hist_percentile_us(h, 0.99, shift);
	h->p999 = hist_percentile_us(h, 0.999, shift);
}

/* BPF's histogram at this offset of struct cpu_state, over all CPUs. */
static void hist_read(struct histogram *h, size_t at, u32 shift)
{
	u32 cpu, i;

	memset(h, 0, sizeof(*h));
	for (cpu = 0; cpu < topo.nr_cpus; cpu++)
		for (i = 0; i < HIST_SLOTS; i++)
			h->slot[i] += ((u32 *)((char *)&st.skel->bss_cpus->cpu_states[cpu] + at))[i];
	hist_sum(h, shift);
}

static double rss_kb(void)
{
	unsigned long pages;
	char buf[128];

	read_file(buf, sizeof(buf), "/proc/self/statm");
	return sscanf(buf, "%*u %lu", &pages) == 1 ? pages * 4 : NAN;
}

/* How many clients of this user are connected; ALL_USERS: of any. */
#define ALL_USERS	((uid_t)-1)
static u32 clients_of(uid_t uid)
{
	u32 i, n = 0;

	for (i = 0; i < MAX_CLIENTS; i++)
		n += st.clients[i].fd >= 0 && (uid == ALL_USERS || st.clients[i].uid == uid);
	return n;
}

/* Rates are read as time between events. */
static double hz_of(u64 gap_ns)
{
	return gap_ns ? (double)NSEC_PER_SEC / gap_ns : 0;
}

/* NAN where there is nothing to say yet. frames_sum() has been called. */
static double stat_user(enum user_stat id)
{
	switch (id) {
#define USTAT_VALUE(id, name, unit, type, value, help) case USTAT_##id: return value;
	USER_STATS(USTAT_VALUE)
	case USTAT_NR:
		break;
	}
	return NAN;
}

/* One value of a row of stats[]. */
struct stat_now {
	const struct stat_desc *d;
	u32 member;		/* index in d->members; 0 where there are none */
	double v;		/* a histogram's samples; NAN: there is nothing to say yet */
	struct histogram hist;	/* of STAT_HIST */
};

/* Calls `print` for each value of stats[], in its order, also for a value that says nothing yet. */
static void stats_each(void (*print)(const struct stat_now *s, void *ctx), void *ctx)
{
	struct stat_now s;

	frames_sum();
	for (s.d = stats; s.d < stats + ARRAY_SIZE(stats); s.d++) {
		const struct stat_desc *d = s.d;

		for (s.member = 0; s.member < d->n; s.member++) {
			if (d->type == STAT_HIST) {
				hist_read(&s.hist, d->at + s.member * HIST_SLOTS * sizeof(u32), d->shift);
				s.v = s.hist.n ? s.hist.n : NAN;
			} else if (d->user) {
				s.v = d->label ? st.taken[s.member] : stat_user(d->at);
			} else {
				s.v = cpu_sum(d->at + s.member * sizeof(u64));
			}
			print(&s, ctx);
		}
	}
}

static const char *const profile_names[] = { "auto", "performance", "balanced", "powersave" };

/* One line that says what gamer does, until the next call. */
static const char *summary(void)
{
	static char text[256];

	if (st.fair)
		text_f(text, sizeof(text), "advising by nice value%s (%s)", fair.slices ? " and slice" : "",
		       st.fair_why);
	else if (st.observing)
		snprintf(text, sizeof(text), "observing, the kernel's own scheduler decides");
	else
		snprintf(text, sizeof(text), "scheduling %u CPU%s, %u cache%s, profile %s", topo.nr_cpus,
			 topo.nr_cpus == 1 ? "" : "s", topo.nr_llcs, topo.nr_llcs == 1 ? "" : "s",
			 profile_names[st.profile]);
	return text;
}

struct threads_out {
	struct out *o;
	struct json *j;		/* of THREADS_JSON; writes to o */
	enum {
		THREADS_JSON,
		THREADS_TEXT,
		THREADS_TOP,	/* for top, which makes shares of the times; the least important comes last */
	} as;
	u32 more;		/* threads that found no room */
};

static void thread_print(const struct thread_row *row, void *ctx)
{
	const char *class = class_names[row->class % CLASS_NR], *role = role_names[row->role % ROLE_NR];
	const char *source = source_names[row->source % SOURCE_NR];
	double submit_hz = hz_of(row->submit_gap_ns), wake_hz = hz_of(row->gap_ns);
	struct threads_out *to = ctx;
	struct json *j = to->j;

	/* a process may have thousands of threads: half of the answer is for the rest */
	if (to->o->len >= OUT_SIZE / 2) {
		to->more++;
		return;
	}
	switch (to->as) {
	case THREADS_JSON:
		json_f(j, "{tid=%u pid=%u class=%s role=%s source=%s confidence=%u submits=%llu submit_hz=%.1f "
		       "wake_hz=%.1f burst_us=%.1f cpu=%u run_ms=%.3f wait_ms=%.3f primary=%u role_at_ns=%llu "
		       "role_wakeups=%llu seen_at_ns=%llu comm=%s}", row->tid, row->tgid, class, role, source,
		       row->confidence, row->submits, submit_hz, wake_hz, row->burst_ns / 1e3, row->cpu,
		       row->run_ns / 1e6, row->wait_ns / 1e6, row->primary, row->role_at_ns, row->role_wakeups,
		       row->seen_at_ns, row->comm);
		break;
	case THREADS_TEXT:
		out_f(to->o, "thread %8u %8u %-10s %-10s %-8s %4u %9.1f  %s\n", row->tid, row->tgid,
		      class, role, source, row->confidence, submit_hz, row->comm);
		break;
	case THREADS_TOP:
		out_f(to->o, "thread %u %llu %llu %-15s %-10s %-8s %4u %3u %8.1f %8.1f %8.1f %s\n",
		      row->tid, row->run_ns, row->wait_ns, row->comm, role, source, row->confidence,
		      row->cpu, submit_hz, wake_hz, row->burst_ns / 1e3, class);
		break;
	}
}

static const char *const frame_sources[] = { "none", "cadence", "flip" };

/* An input's way to the display, stage by stage: half and 99 of 100 took less. No data, no figure. */
static void input_print(struct out *o, struct json *j)
{
	static const struct { enum hist id; const char *key, *name; } stages[] = {
		{ HIST_INPUT_READER, "to_reader", "reader" }, { HIST_INPUT_SUBMIT, "to_submit", "submit" },
		{ HIST_INPUT_PRESENT, "to_present", "screen" },
	};
	struct histogram h;
	char key[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(stages); i++) {
		hist_read(&h, offsetof(struct cpu_state, hist[stages[i].id]), HIST_SHIFT);
		if (h.n && !j)
			out_f(o, "  %s %.2f/%.2f ms", stages[i].name, h.p50 / 1e3, h.p99 / 1e3);
		if (!h.n || !j)
			continue;
		snprintf(key, sizeof(key), "%s_p50_us", stages[i].key);
		json_f64(j, key, h.p50, 1);
		snprintf(key, sizeof(key), "%s_p99_us", stages[i].key);
		json_f64(j, key, h.p99, 1);
	}
}

#define FRAMES_SHOWN	240	/* frames whose times are told one by one */

static void frame_json(struct json *j)
{
	const struct frame_state *f = &st.skel->bss->frame;
	u64 end = st.skel->bss->frames_logged, i;
	char key[16];

	json_f(j, "frame{source=%s presented=%llu dropped=%llu missed=%llu interval_us?=%.1f "
	       "submit_to_present_us?=%.1f compositor_us?=%.1f", frame_sources[f->source % 3], f->presented, f->dropped,
	       f->missed, f->interval_ns / 1e3, f->submit_to_present_ns / 1e3, f->compositor_ns / 1e3);
	if (frames.n) {
		json_f(j, "fps=%.1f low1_fps=%.1f low01_fps=%.1f", frames.fps, frames.low1, frames.low01);
		for (i = 0; i < RANKS; i++) {
			snprintf(key, sizeof(key), "%s_ms", ranks[i].key);
			json_f64(j, key, frames.ms[i], 2);
		}
		json_open(j, "times_us", '[');
		for (i = end - MIN(frames.n, (u64)FRAMES_SHOWN); i < end; i++)
			json_u64(j, NULL, frame_ns(i) / NSEC_PER_USEC);
		json_close(j, ']');
	}
	json_close(j, '}');
}

static void detection_json(struct json *j, struct out *o)
{
	struct threads_out to = { .o = o, .j = j, .as = THREADS_JSON };

	game_print(o, j);
	json_open(j, "threads", '[');
	threads_each(thread_print, &to);
	json_close(j, ']');
	if (to.more)
		json_u64(j, "threads_not_shown", to.more);
	frame_json(j);
	json_open(j, "input", '{');
#define INPUT_JSON(id, name, ms) json_u64(j, #name, cpu_sum(offsetof(struct cpu_state, stat[BPF_STAT_INPUT_##id])));
	INPUT_KINDS(INPUT_JSON)
	json_f(j, "held=%u window_open=%u", st.skel->bss->input_held, st.skel->bss->input_open);
	input_print(o, j);
	json_close(j, '}');
}

static void detection_text(struct out *o)
{
	const struct frame_state *f = &st.skel->bss->frame;

	threads_each(NULL, NULL);	/* sets input_open too */
	game_print(o, NULL);
	out_f(o, "frame: %s presented %llu dropped %llu missed %llu interval_us %.1f "
	      "submit_to_present_us %.1f compositor_us %.1f\n",
	      frame_sources[f->source % 3], f->presented, f->dropped, f->missed,
	      f->interval_ns / 1e3, f->submit_to_present_ns / 1e3, f->compositor_ns / 1e3);
	out_f(o, "input:");
#define INPUT_TEXT(id, name, ms) \
	out_f(o, " " #name " %" PRIu64, cpu_sum(offsetof(struct cpu_state, stat[BPF_STAT_INPUT_##id])));
	INPUT_KINDS(INPUT_TEXT)
	out_f(o, " held %u window %s\n", st.skel->bss->input_held, st.skel->bss->input_open ? "open" : "closed");
}

/* A row's name with its unit; histograms have that with each figure. */
static const char *stat_key(const struct stat_desc *d)
{
	static char key[64];

	snprintf(key, sizeof(key), "%s%s", d->name, d->type == STAT_HIST ? "" : units[d->unit].suffix);
	return key;
}

static void stat_json(const struct stat_now *s, void *ctx)
{
	const struct stat_desc *d = s->d;
	const char *key = d->label ? d->members[s->member] : stat_key(d);
	struct json *j = ctx;

	if (d->label && !s->member)
		json_open(j, stat_key(d), '{');
	if (s->v == s->v && d->type == STAT_HIST) {
		json_open(j, key, '{');
		json_f(j, "n=%lu p50_us=%.1f p99_us=%.1f p999_us=%.1f}", s->hist.n, s->hist.p50, s->hist.p99,
		       s->hist.p999);
	} else if (s->v == s->v) {
		json_f64(j, key, s->v, s->v == floor(s->v) ? 0 : 2);
	}
	if (d->label && s->member == d->n - 1)
		json_close(j, '}');
}

static void status_json(struct out *o)
{
	bool wine_used = false;
	struct json j;
	u32 i;

	for (i = 0; i < WINE_FILES; i++)
		wine_used |= wine_files[i].attached;
	json_begin(&j, o, "status");
	json_f(&j, "version=%s mode=%s fair_why?=%s fair_limit?=%s", GAMER_VERSION,
	       st.fair ? "fair" : st.observing ? "observe" : "schedule", st.fair ? st.fair_why : NULL,
	       st.fair ? fair.limit : NULL);
	json_f(&j, "profile=%s at_ns=%lu cpus=%u caches=%u hooks{", profile_names[st.profile], now_ns(), topo.nr_cpus,
	       topo.nr_llcs);
	for (i = 0; i < HOOK_NR; i++)
		json_str(&j, hooks[i].name, st.hook_why[i] ? hooks[i].fallback :
			 i == HOOK_WINE && !wine_used ? "waiting for Wine" : "attached");
	json_f(&j, "} stats{");
	stats_each(stat_json, &j);
	json_close(&j, '}');
	detection_json(&j, o);
	json_end(&j);
}

/* Of what is counted for each of something, only what is not 0. */
static void stat_text(const struct stat_now *s, void *ctx)
{
	const struct stat_desc *d = s->d;
	struct out *o = ctx;
	char name[64];

	if (s->v != s->v || (d->label && !s->v))
		return;
	snprintf(name, sizeof(name), "%s%s%s", stat_key(d), d->label ? "." : "", d->label ? d->members[s->member] : "");
	if (d->type == STAT_HIST)
		out_f(o, "%-30s %14" PRIu64 " p50 %.1f p99 %.1f p99.9 %.1f us, %s\n", name, s->hist.n,
		      s->hist.p50, s->hist.p99, s->hist.p999, d->help);
	else
		out_f(o, "%-30s %14.*f %s\n", name, s->v == floor(s->v) ? 0 : 1, s->v, d->help);
}

static void status_text(struct out *o)
{
	struct threads_out to = { .o = o, .as = THREADS_TEXT };
	u32 i;

	out_f(o, "gamer %s: %s\n", GAMER_VERSION, summary());
	if (fair.limit[0])
		out_f(o, "limit: %s\n", fair.limit);
	for (i = 0; i < HOOK_NR; i++)
		if (st.hook_why[i])
			out_f(o, "hook %s: %s; instead: %s\n", hooks[i].name, st.hook_why[i], hooks[i].fallback);
	stats_each(stat_text, o);
	detection_text(o);
	out_f(o, "thread %8s %8s %-10s %-10s %-8s %4s %9s  %s\n", "tid", "pid", "class", "role",
	      "source", "conf", "submit/s", "comm");
	threads_each(thread_print, &to);
	if (to.more)
		out_f(o, "(%u more threads)\n", to.more);
}

/* What top shows: lines for its head, the titles of its columns, threads, an empty line. */
static void status_top(struct out *o)
{
	struct threads_out to = { .o = o, .as = THREADS_TOP };
	u64 lost;
	u32 i, n;

	frames_sum();
	out_f(o, "gamer %s: %s\n", GAMER_VERSION, summary());
	detection_text(o);
	out_f(o, "fps: ");
	if (frames.n) {
		out_f(o, "%.1f low 1%% %.1f 0.1%% %.1f ms", frames.fps, frames.low1, frames.low01);
		for (i = 0; i < RANKS; i++)
			out_f(o, " %s %.1f", ranks[i].label, frames.ms[i]);
	} else {
		out_f(o, "no frames yet");
	}
	out_f(o, "\ninput until seen (p50/p99):");
	input_print(o, NULL);
	out_f(o, "\nevents lost:");
	for (i = n = 0; i < EVENT_NR; i++) {
		lost = cpu_sum(offsetof(struct cpu_state, lost[i]));
		if (lost && ++n)
			out_f(o, " %s %" PRIu64, type_names[i], lost);
	}
	out_f(o, "%s  hooks off:", n ? "" : " none");
	for (i = n = 0; i < HOOK_NR; i++)
		if (st.hook_why[i] && ++n)
			out_f(o, " %s", hooks[i].name);
	out_f(o, "%s\ntitles %-15s %-10s %-8s %4s %3s %8s %8s %8s %s\n", n ? "" : " none", "name", "role", "source",
	      "conf", "cpu", "submit/s", "wake/s", "burst us", "class");
	threads_each(thread_print, &to);
	out_f(o, "\n");
}

struct metrics_out {
	struct out *o;
	bool collector;
};

/* Buckets are whole octaves, so that the answer has room for all. The sum of the times is not known. */
static void stat_metric(const struct stat_now *s, void *ctx)
{
	const struct stat_desc *d = s->d;
	const struct metrics_out *to = ctx;
	const char *total = d->type == STAT_COUNTER ? "_total" : "", *head = to->collector ? total : "";
	char name[64], label[64] = "", le[32];
	u64 sum = 0;
	u32 i;

	snprintf(name, sizeof(name), "gamer_%s%s", d->name, units[d->unit].base);
	if (!s->member)
		out_f(to->o, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, head, d->help, name, head, stat_types[d->type]);
	if (s->v != s->v)
		return;
	if (d->label)
		snprintf(label, sizeof(label), "%s=\"%s\"", d->label, d->members[s->member]);
	if (d->type != STAT_HIST)
		out_f(to->o, *label ? "%s%s{%s} %.12g\n" : "%s%s%s %.12g\n", name, total, label,
		      s->v * units[d->unit].scale);
	for (i = 0; d->type == STAT_HIST && i < HIST_SLOTS; i++) {
		sum += s->hist.slot[i];
		if (i % 4 != 3)
			continue;
		if (i < HIST_SLOTS - 1)
			snprintf(le, sizeof(le), "%g", hist_slot_us(i, d->shift) / 1e6);
		else
			snprintf(le, sizeof(le), "+Inf");
		out_f(to->o, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, label, *label ? "," : "", le, sum);
	}
}

/*
 * OpenMetrics; or, for textfile collectors, the older format of Prometheus. They differ in
 * what a counter is called in its head, and in the end mark.
 */
static void status_metrics(struct out *o, bool collector)
{
	stats_each(stat_metric, &(struct metrics_out){ .o = o, .collector = collector });
	if (!collector)
		out_f(o, "# EOF\n");
}

/* One value of the status file; NAN is left out. */
static void status_value(struct out *o, const char *key, double v)
{
	if (v == v)
		out_f(o, "%s %.*f\n", key, v == floor(v) ? 0 : 2, v);
}

/* The status file: each line is a word and its value, for scripts and overlays. */
static void status_file(struct out *o)
{
	u64 misses = 0;
	u32 i;

	frames_sum();
	out_f(o, "gamer %s: %s\n", GAMER_VERSION, summary());
	if (!game.now)
		return;
	out_f(o, "game %d %s\n", game.now->pid, game.now->comm);
	status_value(o, "fps", frames.fps);
	status_value(o, "fps_1_percent_low", frames.low1);
	status_value(o, "frame_p50_ms", frames.ms[RANK_P50]);
	status_value(o, "frame_p99_ms", frames.ms[RANK_P99]);
	status_value(o, "frames_dropped", st.skel->bss->frame.dropped);
	for (i = 0; i < ROLE_NR; i++)
		misses += cpu_sum(offsetof(struct cpu_state, misses[i]));
	status_value(o, "deadline_misses", misses);
}

/* The metrics file, where one is wanted; of a gamer that does not work it says just that. */
static void metrics_write(bool up)
{
	static const char *was;

	if (!args.run.metrics_file)
		return;
	st.metrics_at_ns = up ? now_ns() : 0;
	out_keep(&answer);
	if (up)
		status_metrics(&answer, true);
	else
		out_f(&answer, "# HELP gamer_up " UP_HELP "\n# TYPE gamer_up gauge\ngamer_up 0\n");
	write_whole(args.run.metrics_file, answer.buf, answer.len, &was);
}

/* Writes the files that other programs read without asking: status, and metrics every METRICS_NS. */
static void status_publish(void)
{
	out_keep(&answer);
	status_file(&answer);
	write_atomic("status", answer.buf, answer.len);
	if (!st.metrics_at_ns || now_ns() - st.metrics_at_ns >= METRICS_NS)
		metrics_write(true);
}

/*
 * What gamer does has changed: writes the status, and tells systemd. From now on a timer writes the
 * files again: each second while there is a game, else as often as metrics are wanted.
 */
static void status_changed(void)
{
	u64 period = game.now ? NSEC_PER_SEC : args.run.metrics_file ? METRICS_NS : 0;

	timer_set(EV_PUBLISH, period, period);
	status_publish();
	sd_notify_("READY=1\nSTATUS=%s", summary());
}

/* ======== 18. server ================================================================ */

/* An event that gamer itself makes, for clients alone: BPF found a ring full. */
#define EVENT_LOST	EVENT_NR
struct event_lost {
	EVENT_HEAD;
	u32 lost;		/* enum event_type */
	u64 count;		/* events lost since gamer last told of it */
};

/* event_game.what beside enum hint, of gamer's own */
#define GAME_CHOSEN	(1U << 30)
#define GAME_GONE	(1U << 31)

#define CPU_NONE	0xffff	/* event.cpu: no CPU saw it */

/* An event for clients that ask for records: all have one size, zeros behind what is shorter. */
union record {
	char bytes[48];
	struct event head;
	struct event_input input;
	struct event_game game;
	struct event_frame frame;
	struct event_submit submit;
	struct event_migration migration;
	struct event_classification classification;
	struct event_miss miss;
	struct event_run run;
	struct event_lost lost;
};
_Static_assert(sizeof(union record) == 48, "sent to clients");

/* The program that sees who runs costs each switch something, so it is attached while a client wants that. */
static void run_watch(bool on)
{
	u64 run = caps_get(true);

	if (on == (st.run_fd > 0))
		return;
	if (!on) {
		close(st.run_fd);
		st.run_fd = 0;
		return;
	}
	caps_set(run | caps_for(CAP_START), caps_get(false));
	st.skel->bss->run_watched_ns = now_ns();
	st.run_fd = bpf_raw_tracepoint_open(NULL, bpf_program__fd(st.skel->progs.run_ended));
	caps_set(run, caps_get(false));
}

/*
 * Maps the rings whose events a client wants, and has BPF fill those and no others; rings_settle()
 * closes the rest. False: a ring could not be mapped.
 */
static bool events_want(void)
{
	u32 types = 1U << EVENT_GAME | st.fair << EVENT_CLASSIFICATION, i;
	bool all = true;

	for (i = 0; i < MAX_CLIENTS; i++)
		if (st.clients[i].fd >= 0)
			types |= st.clients[i].events.types;
	if (!st.skel)
		return true;
	for (i = 0; i < EVENT_NR; i++) {
		if (!(types & (1U << i)) || st.rings[i].taken)
			continue;
		st.rings[i].lost = cpu_sum(offsetof(struct cpu_state, lost[i]));
		if (!ring_open(i)) {
			types &= ~(1U << i);
			all = false;
		}
	}
	__atomic_store_n(&st.skel->data->events_wanted, types, __ATOMIC_RELEASE);
	run_watch(types & 1U << EVENT_RUN);
	return all;
}

static void client_drop(struct client *c, bool count)
{
	close(c->fd);
	c->fd = -1;
	st.clients_dropped += count;
	events_want();
}

/*
 * Sends what there is room for in the client's socket. What is left waits for the client, and so
 * does its next request: nobody waits for a client.
 */
static void client_flush(struct client *c)
{
	char *out = client_out[c - st.clients];
	u32 waits;
	ssize_t n;

	if (c->fd < 0)
		return;
	if (c->gathered) {
		n = send(c->fd, out, c->gathered, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN) {
			client_drop(c, false);
			return;
		}
		c->gathered -= MAX(n, 0);
		memmove(out, out + MAX(n, 0), c->gathered);
	}
	waits = c->gathered || memchr(c->line, '\n', c->len) ? EPOLLOUT : EPOLLIN;
	if (waits != c->waits && loop_set(EPOLL_CTL_MOD, c->fd, EV_CLIENT + (c - st.clients), waits))
		c->waits = waits;
}

/* Gathers text for a client. A client that reads so little that the text finds no room is dropped. */
static void client_put(struct client *c, const char *s, size_t len)
{
	if (c->gathered + len > CLIENT_OUT)
		client_flush(c);
	if (c->fd >= 0 && c->gathered + len > CLIENT_OUT)
		client_drop(c, true);
	if (c->fd < 0)
		return;
	memcpy(client_out[c - st.clients] + c->gathered, s, len);
	c->gathered += len;
}

static void answer_error(const char *why)
{
	out_keep(&answer);
	out_f(&answer, "{\"v\":1,\"error\":\"%s\"}\n", why);
}

/*
 * How soon this client gives way to a new one of user `uid`; 0: not at all. First goes a client that
 * listens to no events and has not asked for a while. Next goes a client whose user has more than a
 * fair share, and for root a client of any other user. Last goes a client that is about to ask, and
 * only for another one of the same user.
 */
static u32 client_yields(const struct client *c, uid_t uid, u64 now)
{
	bool listens = c->events.types;

	if (!listens && now - c->asked_ns > CLIENT_IDLE_NS)
		return 4;
	if (c->uid && c->uid != uid && (!uid || clients_of(c->uid) > clients_of(uid) + 1))
		return 3 - listens;
	return !listens && c->uid == uid;
}

/* A place for a client of this user. Where all are taken, a client is dropped; NULL: none yields. */
static struct client *client_place(uid_t uid)
{
	struct client *c, *best = NULL;
	u32 yields, most = 1;
	u64 now = now_ns();

	for (c = st.clients; c < st.clients + MAX_CLIENTS; c++) {
		if (c->fd < 0)
			return c;
		yields = client_yields(c, uid, now);
		if (yields > most || (yields == most && (!best || c->asked_ns < best->asked_ns))) {
			best = c;
			most = yields;
		}
	}
	if (best)
		client_drop(best, true);
	return best;
}

/*
 * Accepts one client. The socket is edge-triggered, for gamer may have no descriptor left, and a
 * socket that stays ready would then wake the loop for ever. Each turn of the loop may free a
 * descriptor, so gamer tries again after each.
 */
static void client_accept(void)
{
	int fd = accept4(st.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct ucred peer = { .uid = -1 };
	socklen_t size = sizeof(peer);
	struct client *c;
	char why[96];

	st.accept_failed = fd < 0 && errno != EAGAIN;
	if (fd < 0)
		return;
	loop_set(EPOLL_CTL_MOD, st.listen_fd, EV_LISTEN, EPOLLIN | EPOLLET);	/* the next */
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	c = client_place(peer.uid);
	if (c && loop_set(EPOLL_CTL_ADD, fd, EV_CLIENT + (c - st.clients), EPOLLIN)) {
		*c = (struct client){ .fd = fd, .uid = peer.uid, .waits = EPOLLIN,
				      .asked_ns = now_ns() };
		return;
	}
	snprintf(why, sizeof(why), "gamer runs, but all its %d places for clients are taken", MAX_CLIENTS);
	answer_error(why);
	send(fd, answer.buf, answer.len, MSG_NOSIGNAL);
	close(fd);
	st.clients_dropped++;
}

/* The value of a number in a request, or 0. Requests are short lines of our own making. */
static u32 request_number(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? strtoul(at + strlen(key) + strspn(at + strlen(key), " "), NULL, 10) : 0;
}

static struct request request_parse(const char *line)
{
	static const char *const words[] = {
		[ASK_EVENTS] = "\"events\"", [ASK_STATUS] = "\"status\"", [ASK_TEXT] = "\"text\"",
		[ASK_METRICS] = "\"metrics\"", [ASK_TOP] = "\"top\"",
	};
	u32 what = ASK_EVENTS, types = (1U << EVENT_RUN) - 1;	/* all but run, where none is named */
	const char *at = strstr(line, "\"types\":");

	while (what < ARRAY_SIZE(words) && !strstr(line, words[what]))
		what++;
	at = at ? strchr(at + 8, '"') : NULL;
	if (at && at[1] != '"' && list_bits(&types, at + 1, type_names, EVENT_NR))
		types = 0;
	return (struct request){
		.what = what < ARRAY_SIZE(words) ? what : ASK_NOTHING, .types = types,
		.tid = request_number(line, "\"tid\":"), .pid = request_number(line, "\"pid\":"),
		.records = strstr(line, "\"records\""),
	};
}

/* Moves the first whole line of what a client has sent to `line`; false: there is none yet. */
static bool request_take(struct client *c, char line[CLIENT_LINE])
{
	char *end = memchr(c->line, '\n', c->len);
	u32 len = end ? end - c->line : 0;

	if (!end)
		return false;
	memcpy(line, c->line, len);
	line[len] = 0;
	c->len -= len + 1;
	memmove(c->line, end + 1, c->len);
	return true;
}

/* From now on this client is sent events as they come. */
static void client_subscribe(struct client *c, const struct request *r)
{
	int size = 1 << 20;	/* bytes that its socket may hold until it reads; wmem_max limits it */
	struct json j;

	if (!r->types) {
		answer_error("unknown event type");
		return;
	}
	c->events = *r;
	if (!events_want()) {
		c->events.types = 0;
		events_want();
		answer_error("no memory for events");
		return;
	}
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	json_begin(&j, &answer, "events");
	json_f(&j, "at_ns=%lu record_bytes?=%lu", now_ns(), r->records ? sizeof(union record) : 0);
	json_end(&j);
}

static void client_answer(struct client *c, const char *text)
{
	const struct request r = request_parse(text);

	out_keep(&answer);
	switch (r.what) {
	case ASK_EVENTS:	client_subscribe(c, &r);		break;
	case ASK_STATUS:	status_json(&answer);			break;
	case ASK_TEXT:		status_text(&answer);			break;
	case ASK_METRICS:	status_metrics(&answer, false);		break;
	case ASK_TOP:		status_top(&answer);			break;
	case ASK_NOTHING:	answer_error("unknown command");	break;
	}
	client_put(c, answer.buf, answer.len);
	c->asked_ns = now_ns();
}

/*
 * Answers one request of a client: one a turn, so that every client has its turn, and none while
 * the client has not read what was sent before.
 */
static void client_turn(struct client *c)
{
	char text[CLIENT_LINE];
	ssize_t n;

	client_flush(c);
	if (c->fd < 0 || c->gathered)
		return;
	if (!request_take(c, text)) {
		n = read(c->fd, c->line + c->len, sizeof(c->line) - c->len);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			client_drop(c, false);
			return;
		}
		c->len += n;
		if (!request_take(c, text)) {
			if (c->len < sizeof(c->line))
				return;
			answer_error("a request is too long");
			send(c->fd, answer.buf, answer.len, MSG_NOSIGNAL);
			client_drop(c, true);
			return;
		}
	}
	client_answer(c, text);
}

/* A name that may lack its end, with one; until the next call. */
static const char *comm_text(const char comm[16])
{
	static char text[17];

	memcpy(text, comm, 16);
	return text;
}

static const char *hint_name(u32 what)
{
	return what & GAME_CHOSEN ? "chosen" : what & GAME_GONE ? "gone" : what & HINT_GPU ? "gpu" :
	       what & HINT_INPUT ? "input" : what & HINT_FLIP ? "flip" : what & HINT_AUDIO ? "audio" : "name";
}

/* How far a thread moved: to the other half of a core, within a cache, or to another one. */
static const char *move_distance(u32 from, u32 to)
{
	if (from >= topo.nr_cpus || to >= topo.nr_cpus)
		return "far";
	return topo.sibling[from] == to ? "core" : topo.llc[from] == topo.llc[to] ? "cache" : "far";
}

#define SUBMIT_ROW(driver, request, symbol) { driver, request },
static const struct { const char *driver; u32 request; } submits[] = { GPU_SUBMITS(SUBMIT_ROW) };

/* The members of an event, but for its name and time. It has the room of a record. */
static void event_json(struct json *j, const struct event *e)
{
	static const char *const whats[] = { "motion", "release", "press" };
	const union record *r = (const union record *)e;

	if (e->cpu != CPU_NONE)
		json_u64(j, "cpu", e->cpu);
	json_f(j, "tid?=%u pid?=%u role?=%s", e->tid, e->tgid, e->role ? role_names[e->role % ROLE_NR] : NULL);
	switch (e->type) {
	case EVENT_INPUT:
		json_f(j, "kind=%s what=%s", input_names[r->input.kind % INPUT_KIND_NR], whats[r->input.what % 3]);
		break;
	case EVENT_GAME:
		json_f(j, "what=%s comm?=%s", hint_name(r->game.what), *r->game.comm ? comm_text(r->game.comm) : NULL);
		break;
	case EVENT_FRAME:
		json_f(j, "source=%s interval_us?=%llu submit_to_present_us?=%llu compositor_us?=%llu dropped=%u "
		       "missed=%u", frame_sources[r->frame.source % 3], r->frame.interval_ns / NSEC_PER_USEC,
		       r->frame.submit_to_present_ns / NSEC_PER_USEC, r->frame.compositor_ns / NSEC_PER_USEC,
		       r->frame.dropped, r->frame.missed);
		break;
	case EVENT_SUBMIT:
		json_f(j, "gap_us?=%llu driver=%s request=%u primary=%u", r->submit.gap_ns / NSEC_PER_USEC,
		       submits[r->submit.submit % ARRAY_SIZE(submits)].driver,
		       submits[r->submit.submit % ARRAY_SIZE(submits)].request, r->submit.primary);
		break;
	case EVENT_MIGRATION:
		json_f(j, "from=%u reason=%s distance=%s wait_us=%llu", r->migration.from,
		       reason_names[r->migration.reason % REASON_NR], move_distance(r->migration.from, e->cpu),
		       r->migration.wait_ns / NSEC_PER_USEC);
		break;
	case EVENT_CLASSIFICATION:
		json_f(j, "old_role=%s source=%s confidence=%u class=%s",
		       role_names[r->classification.old_role % ROLE_NR],
		       source_names[r->classification.source % SOURCE_NR], r->classification.confidence,
		       class_names[r->classification.class % CLASS_NR]);
		break;
	case EVENT_MISS:
		json_f(j, "expected_ns=%llu actual_ns=%llu amount_us=%llu", r->miss.expected_ns, r->miss.actual_ns,
		       r->miss.amount_ns / NSEC_PER_USEC);
		break;
	case EVENT_RUN:
		json_f(j, "comm=%s run_us=%llu", comm_text(r->run.comm), (e->at_ns - r->run.from_ns) / NSEC_PER_USEC);
		break;
	case EVENT_LOST:
		json_f(j, "type=%s count=%lu", type_names[r->lost.lost % EVENT_NR], r->lost.count);
	}
}

static const char *event_name(u32 type)
{
	return type < EVENT_NR ? type_names[type] : "lost";
}

static bool client_wants(const struct client *c, const struct event *e)
{
	const struct request *r = &c->events;

	if (c->fd < 0)
		return false;
	if (e->type == EVENT_LOST)	/* a client that wants a type must know what is missing of it */
		return r->types & (1U << ((const struct event_lost *)e)->lost);
	return (r->types & (1U << e->type)) && (!r->tid || r->tid == e->tid) && (!r->pid || r->pid == e->tgid);
}

/* Gives an event of `len` bytes to the clients that want it, as JSON or as a record. */
static void event_tell(const struct event *e, size_t len)
{
	static struct out line;
	union record record = { .bytes = { 0 } };
	struct json j = { .o = &line };
	struct client *c;

	if (e->type > EVENT_LOST)
		return;
	memcpy(record.bytes, e, MIN(len, sizeof(record)));
	out_keep(&line);	/* an initialiser would put the whole buffer into the file */
	for (c = st.clients; c < st.clients + MAX_CLIENTS; c++) {
		if (!client_wants(c, e))
			continue;
		if (c->events.records) {
			client_put(c, record.bytes, sizeof(record));
			continue;
		}
		if (!line.len) {
			json_f(&j, "{v=%u event=%s at_ns=%llu", 1, event_name(e->type), e->at_ns);
			event_json(&j, &record.head);
			json_end(&j);
		}
		client_put(c, line.buf, line.len);
	}
}

static void lost_tell(enum event_type type)
{
	u64 lost = cpu_sum(offsetof(struct cpu_state, lost[type]));
	struct ring *r = &st.rings[type];
	const struct event_lost e = {
		.at_ns = now_ns(), .cpu = CPU_NONE, .type = EVENT_LOST, .lost = type,
		.count = lost - r->lost,
	};

	r->lost = lost;
	if (e.count)
		event_tell((const struct event *)&e, sizeof(e));
}

#define FREQUENT(id, name, kib, frequent) frequent,
static const bool type_frequent[] = { EVENTS(FREQUENT) };

#define TAKE_MAX	256	/* records of a ring in one turn of the loop: some milliseconds at most */

/* Read what a ring holds, up to TAKE_MAX records. False: there may be more. */
static bool ring_take(enum event_type type)
{
	struct ring *r = &st.rings[type];
	u32 held = 0, len, left;
	const struct event *e;

	for (left = TAKE_MAX; r->taken && left && (e = ring_next(r, &held, &len)); left--) {
		st.taken[type]++;
		st.roles_changed |= type == EVENT_CLASSIFICATION;
		if (type == EVENT_GAME) {
			const struct event_game *g = (const struct event_game *)e;

			if (g->what == HINT_LEARNED)
				db_drain();
			if (g->what == HINT_LEARNED || g->what == HINT_EXIT)
				continue;	/* of the exit scx_look() hears */
			game_hint(g);
		}
		event_tell(e, len);
	}
	ring_release(r, &held);
	if (type == EVENT_GAME)
		game_lost();
	lost_tell(type);
	return left;
}

/* Reads each ring that no client wants any more to its end, so that every event is counted, and closes it. */
static void rings_settle(void)
{
	u32 wanted = st.skel->data->events_wanted, i;

	for (i = 0; i < EVENT_NR; i++) {
		if (!st.rings[i].taken || (wanted & (1U << i)))
			continue;
		while (!ring_take(i))
			;	/* ends: BPF sees events_wanted and writes no more */
		ring_close(i);
	}
}

static void on_batch(void)
{
	u32 i;

	st.batch_armed = false;
	for (i = 0; i < EVENT_NR; i++)
		st.rings_due |= type_frequent[i] << i;
}

/* Frequent events wait in their ring for BATCH_NS, so that gamer wakes once for many of them. */
static void on_ring(enum event_type type)
{
	if (!type_frequent[type]) {
		st.rings_due |= 1U << type;
	} else if (!st.batch_armed) {
		st.batch_armed = true;
		timer_set(EV_BATCH, BATCH_NS, 0);
	}
}

/* Tells clients when another process has become the game, or none is. */
static void game_tell(void)
{
	static s32 told;
	s32 pid = game.now ? game.now->pid : 0;
	struct event_game e = {
		.at_ns = now_ns(), .cpu = CPU_NONE, .type = EVENT_GAME, .tgid = pid ? : told,
		.what = pid ? GAME_CHOSEN : GAME_GONE,
	};

	if (pid == told)
		return;
	if (pid)
		memcpy(e.comm, game.now->comm, sizeof(e.comm));
	event_tell((const struct event *)&e, sizeof(e));
	told = pid;
	status_changed();
}

static void on_signal(void)
{
	struct signalfd_siginfo si;

	while (read(st.signal_fd, &si, sizeof(si)) == sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGHUP:
			if (st.skel) {
				power_apply();
				status_changed();
			}
			break;
		case SIGUSR1:	/* gamer waits for no reader: what it does not take at once is cut */
			out_keep(&answer);
			if (st.skel)
				status_text(&answer);
			if (write_now(STDOUT_FILENO, answer.buf, answer.len) < answer.len)
				note("SIGUSR1: the status is cut, for nobody reads standard output");
			break;
		case SIGCHLD:
			children_reap();
			game_goes_on();
			break;
		default:
			st.stop = true;
		}
	}
}

/*
 * Does a hook want a function of this module, and has none? A kretprobe leaves with its module, so
 * its hook wants the function each time that the module comes.
 */
static bool module_wanted(const char *name)
{
	size_t i;

	for (i = 0; i < PROG_NR; i++)
		if (progs[i].module && !strcmp(progs[i].module, name) && prog_wanted(i) &&
		    (st.prog_why[i] || progs[i].kind == PROG_KRETPROBE))
			return true;
	return false;
}

/* The kernel tells of a module when its start begins; hooks find its functions when the start is over. */
static void on_module(void)
{
	char state[16];
	size_t i;

	for (i = 0; i < PROG_NR; i++) {
		if (!progs[i].module || !module_wanted(progs[i].module) ||
		    !read_file(state, sizeof(state), "/sys/module/%s/initstate", progs[i].module))
			continue;
		if (!strcmp(state, "coming")) {
			timer_set(EV_MODULE, MODULE_NS, 0);
			return;
		}
		if (!st.modules_came)
			note("module %s has come: gamer loads its programs again", progs[i].module);
		st.modules_came = true;
	}
}

/* A power supply came or went: the profile may change. A module came: its hooks can be attached. */
static void on_uevent(void)
{
	static const char module[] = "add@/module/";
	char buf[4096];
	ssize_t n;
	int i;

	/* a few in a turn: the rest is still there in the next */
	for (i = 0; i < 16 && (n = recv(st.uevent_fd, buf, sizeof(buf) - 1, MSG_DONTWAIT)) > 0; i++) {
		buf[n] = 0;
		if (strstr(buf, "/power_supply/") && args.run.profile == PROFILE_AUTO) {
			power_apply();
			status_changed();
		}
		if (!strncmp(buf, module, strlen(module)) && module_wanted(buf + strlen(module)))
			timer_set(EV_MODULE, MODULE_NS, 0);
	}
}

static void on_watchdog(void)
{
	sd_notify_("WATCHDOG=1");
}

static void loop_event(u64 what)
{
	static void (*const on[EV_RING])(void) = {
		[EV_SIGNAL] = on_signal, [EV_LISTEN] = client_accept, [EV_UEVENT] = on_uevent,
		[EV_MODULE] = on_module, [EV_WATCHDOG] = on_watchdog, [EV_BATCH] = on_batch,
		[EV_PUBLISH] = status_publish, [EV_FAIR] = fair_turn,
		[EV_GAME] = game_looks, [EV_READER] = reader_take, [EV_WINE] = wine_take,
	};

	if (what < EV_TIMERS && !timer_ended(what))
		return;
	if (what < EV_RING)
		on[what]();
	else if (what >= EV_PIDFD)
		slot_exited(&game.slot[what - EV_PIDFD]);
	else if (what < EV_CLIENT)
		on_ring(what - EV_RING);
	else if (st.clients[what - EV_CLIENT].fd >= 0)
		client_turn(&st.clients[what - EV_CLIENT]);
	if (what == EV_GAME || what == EV_READER || what == EV_WINE || what >= EV_PIDFD)
		game_goes_on();
}

/*
 * Waits and serves until a signal asks to stop or the kernel lets the scheduler go. A turn does a
 * bounded amount of work. Rings come last in a turn: a task that fills them holds up nothing else.
 */
static void loop(void)
{
	struct epoll_event ev[32];
	u32 due;
	int i, n;

	while (!st.stop && !st.exited && !st.modules_came) {
		n = epoll_wait(st.epoll_fd, ev, ARRAY_SIZE(ev), st.rings_due ? 0 : st.link ? SCX_LOOK_MS : -1);
		for (i = 0; i < n; i++)
			loop_event(ev[i].data.u64);
		/* a ring with more than a turn's share stays due */
		due = st.rings_due;
		for (st.rings_due = i = 0; i < EVENT_NR; i++)
			if ((due & (1U << i)) && !ring_take(i))
				st.rings_due |= 1U << i;
		scx_look();
		game_tell();
		fair_turn();
		for (i = 0; i < MAX_CLIENTS; i++)
			client_flush(&st.clients[i]);
		if (st.accept_failed)
			client_accept();
		rings_settle();
	}
}

/*
 * Adds the rings of a newly loaded object, edge-triggered: a ring wakes gamer once, when an event
 * comes after gamer has read all. Frequent events wait until the batch is due, and events that came
 * too late for a closed ring must not wake gamer for ever.
 */
static void loop_add_rings(void)
{
	u32 i;

	for (i = 0; i < EVENT_NR; i++)
		loop_add(bpf_map__fd(ring_map(i)), EV_RING + i, EPOLLIN | EPOLLET);
	events_want();
}

/* The socket is root's; --socket-group opens it for a group. */
static void loop_share_socket(const char *path)
{
	const char *name = args.run.socket_group;
	struct group *group = name ? getgrnam(name) : NULL;
	char *end;
	gid_t gid;

	if (!name)
		return;
	gid = group ? group->gr_gid : strtoul(name, &end, 10);
	if (!group && (*end || end == name))
		die(EX_USAGE, "--socket-group: there is no group '%s'", name);
	if (chown(path, -1, gid))
		die(EX_NOPERM, "--socket-group: %s: %s", path, strerror(errno));
}

static void loop_open_socket(void)
{
	struct sockaddr_un sa = socket_address();

	st.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	unlink(sa.sun_path);	/* ours: the lock is held */
	umask(0117);
	if (st.listen_fd < 0 || bind(st.listen_fd, (struct sockaddr *)&sa, sizeof(sa)) ||
	    listen(st.listen_fd, MAX_CLIENTS)) {
		note("clients find no socket, for %s cannot be opened: %s", sa.sun_path, strerror(errno));
		fd_close(st.listen_fd);
		st.listen_fd = -1;
	} else {
		loop_share_socket(sa.sun_path);
	}
	umask(022);
}

static void loop_open(void)
{
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	const char *usec = getenv("WATCHDOG_USEC");
	u64 sign_ns = usec ? strtoull(usec, NULL, 10) * NSEC_PER_USEC / 2 : 0;
	u32 i;

	signal(SIGPIPE, SIG_IGN);
	st.signal_fd = signals_open((const int[]){ SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, 0 });
	st.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (st.epoll_fd < 0)
		die(EX_SOFTWARE, "epoll: %s", strerror(errno));
	for (i = 0; i < MAX_CLIENTS; i++)
		st.clients[i].fd = -1;
	loop_open_socket();
	st.uevent_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	if (st.uevent_fd >= 0 && bind(st.uevent_fd, (struct sockaddr *)&nl, sizeof(nl))) {
		close(st.uevent_fd);
		st.uevent_fd = -1;
	}
	for (i = 0; i < EV_TIMERS; i++) {
		loop_timers[i] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
		loop_add(loop_timers[i], i, EPOLLIN);
	}
	timer_set(EV_WATCHDOG, sign_ns, sign_ns);	/* at half of the time after which systemd misses it */
	loop_add(st.signal_fd, EV_SIGNAL, EPOLLIN);
	loop_add(st.listen_fd, EV_LISTEN, EPOLLIN | EPOLLET);
	loop_add(st.uevent_fd, EV_UEVENT, EPOLLIN);
}

/* ======== 19. client commands ======================================================= */

/* ==== clients 1: connection ========================================================== */

#define CONN_WAIT_NS	(10 * NSEC_PER_SEC)	/* a gamer that has not answered by then hangs */

/* A connection to the running gamer for one request, whose answer has lines, or behind the first one records. */
struct conn {
	int fd;			/* < 0: closed */
	bool ended;		/* by gamer, in good order */
	const char *why;	/* it was closed; conn_end() */
	size_t len;		/* bytes in buf */
	size_t taken;		/* of these, by conn_line() */
	char buf[OUT_SIZE + 1];
};

/* Connects and sends a request; without `more` gamer hangs up behind the answer. False: errno says why. */
static bool conn_ask(struct conn *c, const char *cmd, const char *more)
{
	struct timeval wait = { .tv_sec = CONN_WAIT_NS / NSEC_PER_SEC };
	struct sockaddr_un sa = socket_address();
	char request[CLIENT_LINE];
	int len = snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"%s\"%s}\n", cmd, more ? : ""), n;

	c->len = c->taken = 0;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return false;
	/* connect() would wait for a stopped gamer for ever */
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)))
		return false;
	n = send(c->fd, request, len, MSG_NOSIGNAL);
	if (n == len)
		return more || !shutdown(c->fd, SHUT_WR);
	if (n >= 0)
		errno = EAGAIN;		/* it was only a part */
	return n < 0 && (errno == EPIPE || errno == ECONNRESET);	/* what gamer said before says why */
}

/* Asks, and ends gamer where that is not possible. */
static void conn_must_ask(struct conn *c, const char *cmd, const char *more)
{
	struct sockaddr_un sa = socket_address();

	if (!conn_ask(c, cmd, more))
		die(errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE, "%s: %s",
		    errno == EACCES ? "not permitted" : errno == EAGAIN ? "gamer does not answer" :
		    errno == ENOENT || errno == ECONNREFUSED ? "no running gamer" : strerror(errno), sa.sun_path);
}

static bool conn_end(struct conn *c, const char *why)
{
	close(c->fd);
	c->fd = -1;
	c->why = why;
	return false;
}

/* Takes what has come; false: nothing will come any more. */
static bool conn_read(struct conn *c)
{
	ssize_t n;

	memmove(c->buf, c->buf + c->taken, c->len - c->taken);
	c->len -= c->taken;
	c->taken = 0;
	if (c->len == sizeof(c->buf))
		return conn_end(c, "an answer has no end");
	n = recv(c->fd, c->buf + c->len, sizeof(c->buf) - c->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	c->ended = !n;
	if (n <= 0)
		return conn_end(c, "gamer closed the connection");
	c->len += n;
	return true;
}

/* The next whole line; NULL: none yet. */
static char *conn_line(struct conn *c)
{
	char *line = c->buf + c->taken, *end = memchr(line, '\n', c->len - c->taken);

	if (!end)
		return NULL;
	*end = 0;
	c->taken = end + 1 - c->buf;
	return line;
}

/* The message of an answer that is an error; NULL: it is none. */
static const char *conn_error(char *line)
{
	static const char head[] = "{\"v\":1,\"error\":\"";
	char *end;

	if (strncmp(line, head, strlen(head)))
		return NULL;
	line += strlen(head);
	end = strrchr(line, '"');
	if (end)
		*end = 0;
	return line;
}

/* After the connection's end: why there is no whole answer; NULL: buf has the answer, and a 0 behind it. */
static const char *conn_lacks(struct conn *c)
{
	c->buf[MIN(c->len, sizeof(c->buf) - 1)] = 0;
	return conn_error(c->buf) ? : c->ended && c->len ? NULL : c->why;
}

/* Asks, and waits for the answer; ends gamer where there is none. */
static void conn_fetch(struct conn *c, const char *cmd)
{
	u64 until_ns = now_ns() + CONN_WAIT_NS, now;
	struct pollfd pfd = { .events = POLLIN };
	const char *why;
	int n;

	conn_must_ask(c, cmd, NULL);
	for (pfd.fd = c->fd; c->fd >= 0;) {
		now = now_ns();
		n = now < until_ns ? poll(&pfd, 1, (until_ns - now) / NSEC_PER_MSEC + 1) : 0;
		if (n > 0)
			conn_read(c);
		else if (!n)
			conn_end(c, "gamer does not answer");
	}
	why = conn_lacks(c);
	if (why)
		die(EX_UNAVAILABLE, "%s: %s", cmd, why);
}

/* An answer, to stdout, if it is whole; returns the exit code. */
static int conn_print(const char *cmd)
{
	static struct conn c;
	char *line;

	conn_fetch(&c, cmd);
	while ((line = conn_line(&c)))
		out_f(&std_out, "%s\n", line);
	out_f(&std_out, "%s", c.buf + c.taken);
	return EX_OK;
}

/* ==== clients 2: traces ============================================================== */

/* Processes of the trace: what its tracks are grouped by. */
enum { TRACE_CPUS = 1, TRACE_ROLES, TRACE_FRAMES };

/* A Chrome trace, which Perfetto opens. */
static struct trace {
	struct file file;
	struct out *out;		/* NULL: no trace is asked for */
	struct json j;			/* on out */
	u64 base_ns;			/* where its time begins, CLOCK_MONOTONIC; events_greeting() */
	u64 started_ns;			/* CLOCK_MONOTONIC; trace_open() */
	u64 events;			/* so far; trace_event() */
	u64 role_end_ns[ROLE_NR];	/* end of a track's last slice; trace_slice() */
	u64 frame_end_ns;		/* the same of the frames; trace_slice() */
	u64 run_end_ns[MAX_CPUS];	/* and of who ran on each CPU */
	bool cpu_named[MAX_CPUS];	/* the track has its name; trace_cpu() */
} trace;

/* Begins an event, and what is known of it; trace_end() ends both. at_ns 0: it has no time. */
static void trace_begin(const char *phase, const char *name, u32 pid, u32 tid, u64 at_ns, u64 duration_ns)
{
	struct json *j = &trace.j;

	json_f(j, "{ph=%s name=%s pid=%u tid=%u", phase, name, pid, tid);
	if (at_ns)
		json_f64(j, "ts", (MAX(at_ns, trace.base_ns) - trace.base_ns) / 1e3, 3);
	if (*phase == 'X')
		json_f64(j, "dur", duration_ns / 1e3, 3);
	if (*phase == 'i')
		json_str(j, "s", "t");
	json_open(j, "args", '{');
}

static void trace_end(void)
{
	json_f(&trace.j, "}}");
	out_put(trace.out, "\n", 1);
}

/* What a process or track is called. */
static void trace_name(const char *kind, u32 pid, u32 tid, const char *name)
{
	trace_begin("M", kind, pid, tid, 0, 0);
	json_str(&trace.j, "name", name);
	trace_end();
}

static void trace_instant(u32 pid, u32 tid, const struct event *e)
{
	trace_begin("i", event_name(e->type), pid, tid, e->at_ns, 0);
	event_json(&trace.j, e);
	trace_end();
}

/* Slices of a track must not overlap: one begins where the one before ended, or later. */
static void trace_slice(const char *name, u32 pid, u32 tid, u64 from_ns, u64 to_ns, u64 *end_ns, const struct event *e)
{
	from_ns = MAX(MAX(from_ns, *end_ns), trace.base_ns);
	*end_ns = MAX(from_ns, to_ns);
	trace_begin("X", name, pid, tid, from_ns, *end_ns - from_ns);
	event_json(&trace.j, e);
	trace_end();
}

/* A frame, from the one before until it was shown. */
static void trace_frame(const struct event_frame *e)
{
	if (!e->interval_ns)
		return;
	trace_slice("frame", TRACE_FRAMES, 1, e->at_ns - MIN(e->interval_ns, e->at_ns), e->at_ns,
		    &trace.frame_end_ns, (const struct event *)e);
	trace_begin("C", "frame time", TRACE_FRAMES, 0, e->at_ns, 0);
	json_f64(&trace.j, "ms", e->interval_ns / 1e6, 3);
	trace_end();
}

/* On the track of its CPU, which has its name from the first event on; track 0: no CPU's. Who ran is a slice. */
static void trace_cpu(const union record *r)
{
	const struct event *e = &r->head;
	char name[16];

	if (e->cpu < MAX_CPUS && !trace.cpu_named[e->cpu]) {
		trace.cpu_named[e->cpu] = true;
		snprintf(name, sizeof(name), "CPU %u", e->cpu);
		trace_name("thread_name", TRACE_CPUS, e->cpu + 1, name);
	}
	if (e->type != EVENT_RUN)
		trace_instant(TRACE_CPUS, e->cpu < MAX_CPUS ? e->cpu + 1 : 0, e);
	else if (e->cpu < MAX_CPUS)
		trace_slice(comm_text(r->run.comm), TRACE_CPUS, e->cpu + 1, r->run.from_ns, e->at_ns,
			    &trace.run_end_ns[e->cpu], e);
}

static void trace_event(const union record *r)
{
	const struct event *e = &r->head;
	u32 role = e->role % ROLE_NR;

	if (e->type > EVENT_LOST || !e->at_ns)
		return;
	trace.events++;
	if (e->type == EVENT_FRAME) {
		trace_frame(&r->frame);
		return;
	}
	trace_cpu(r);
	if (e->type == EVENT_MISS)
		trace_slice(event_name(e->type), TRACE_ROLES, role + 1, r->miss.expected_ns,
			    r->miss.actual_ns, &trace.role_end_ns[role], e);
	else if (role && e->type != EVENT_RUN)
		trace_instant(TRACE_ROLES, role + 1, e);
}

static void trace_open(const char *path)
{
	u32 i;

	trace.out = out_open(&trace.file, path);
	if (!trace.out)
		die(EX_CANTCREAT, "events: cannot write %s: %s", path, file_why);
	topo_read();	/* how far a thread moved; move_distance() */
	trace.j = (struct json){ .o = trace.out };
	trace.started_ns = now_ns();
	json_f(&trace.j, "{displayTimeUnit=%s traceEvents[", "ms");
	trace_name("process_name", TRACE_CPUS, 0, "CPUs");
	trace_name("process_name", TRACE_ROLES, 0, "roles");
	trace_name("process_name", TRACE_FRAMES, 0, "frames");
	trace_name("thread_name", TRACE_FRAMES, 1, "frames");
	for (i = 0; i < ROLE_NR; i++)
		trace_name("thread_name", TRACE_ROLES, i + 1, role_names[i]);
}

/* What came until the end is a trace; without a greeting there is none. Returns the exit code. */
static int trace_close(int code, bool greeted, const char *why)
{
	const char *path = args.events.trace;
	int wrote;

	progress(0, NULL);
	if (code != EX_IOERR && !greeted) {
		if (why || code == EX_OK)
			note("events: %s", why ? : "gamer does not answer");
		file_end(&trace.file, ECANCELED, false);
		return EX_UNAVAILABLE;
	}
	json_close(&trace.j, ']');
	json_end(&trace.j);
	wrote = out_close(trace.out, &trace.file, path, "events");
	if (wrote)
		return wrote;
	note("%s: %" PRIu64 " events in %.1f s, for ui.perfetto.dev%s%s", path, trace.events,
	     (now_ns() - trace.started_ns) / 1e9, why ? "; then " : "", why ? : "");
	return code;
}

/* ==== clients 3: events ============================================================== */

/* No client waits for events of a process or thread that does not exist. */
static void events_check(s64 id, const char *option, const char *what)
{
	if (id && kill(id, 0) && errno == ESRCH && !pids_are_other())
		die(EX_NOINPUT, "%s: there is no %s %" PRId64, option, what, id);
}

static void events_ask(struct conn *c)
{
	u32 types = list_parse("type", args.events.type, type_names, ARRAY_SIZE(type_names)), i;
	char more[CLIENT_LINE];
	size_t n = 0;

	events_check(args.events.pid, "--pid", "process");
	events_check(args.events.tid, "--tid", "thread");
	n += snprintf(more, sizeof(more), ",%s\"types\":\"", args.events.trace ? "\"format\":\"records\"," : "");
	if (!types && args.events.trace)
		types = (1U << EVENT_NR) - 1;
	for (i = 0; types; types &= ~(1U << i++))
		if (types & 1U << i)
			n += snprintf(more + n, sizeof(more) - n, "%s%s", type_names[i], types >> i > 1 ? "," : "");
	snprintf(more + n, sizeof(more) - n, "\",\"tid\":%" PRId64 ",\"pid\":%" PRId64, args.events.tid,
		 args.events.pid);
	conn_must_ask(c, "events", more);
}

/* The first line is a greeting, or says why there will be no events. */
static bool events_greeting(char *line)
{
	const char *why = conn_error(line), *at = strstr(line, "\"at_ns\":");
	char records[32];

	snprintf(records, sizeof(records), "\"record_bytes\":%zu", sizeof(union record));
	if (!why && (strncmp(line, "{\"v\":1,", 7) || !at))
		why = "the answer does not come from gamer";
	else if (!why && args.events.trace && !strstr(line, records))
		why = "the running gamer is of another version, whose records this one cannot read";
	if (why)
		note("events: %s", why);
	else if (args.events.trace)
		trace.base_ns = strtoull(at + strlen("\"at_ns\":"), NULL, 10);
	else
		out_f(&std_out, "%s\n", line);
	return !why;
}

/* Takes the events that have come whole; false: none has. */
static bool events_take(struct conn *c)
{
	union record record;
	bool any = false;
	char *line;

	while (!trace.out && (line = conn_line(c))) {
		out_f(&std_out, "%s\n", line);
		any = true;
	}
	while (trace.out && c->len - c->taken >= sizeof(record)) {
		memcpy(&record, c->buf + c->taken, sizeof(record));
		c->taken += sizeof(record);
		trace_event(&record);
		any = true;
	}
	return any;
}

/* No event is left for now: writes what was printed, or shows progress. False: the output cannot be written. */
static bool events_pause(void)
{
	if (trace.out)
		progress(trace.started_ns, "events: %llu s, %" PRIu64 " in the trace",
			 (now_ns() - trace.started_ns) / NSEC_PER_SEC, trace.events);
	if (trace.out)
		return !trace.out->failed;
	out_flush(&std_out);
	return !std_out.failed;
}

/*
 * Until asked to stop or time is over (EX_OK), or gamer goes, or the output fails. stop_fd is
 * readable once asked to stop; whoever reads what is written to out_fd may go; either may be < 0.
 */
static int events_follow(struct conn *c, int stop_fd, int out_fd, bool *greeted)
{
	u64 end_ns = args.events.seconds ? now_ns() + args.events.seconds * NSEC_PER_SEC : UINT64_MAX, now;
	struct pollfd fds[] = { { c->fd, POLLIN, 0 }, { stop_fd, POLLIN, 0 }, { out_fd, 0, 0 } };
	u64 whole_ns = now_ns();	/* when nothing was outstanding, or something came whole */
	bool open = true, any;
	char *line;

	while ((now = now_ns()) < end_ns) {
		poll(fds, ARRAY_SIZE(fds), MIN((end_ns - now) / NSEC_PER_MSEC + 1, 1000u));
		if (fds[0].revents)
			open = conn_read(c);
		line = *greeted ? NULL : conn_line(c);
		if (line && !events_greeting(line))
			return EX_UNAVAILABLE;
		*greeted |= line != NULL;
		any = *greeted && events_take(c);
		if (!events_pause())
			return EX_IOERR;
		if (line || any || (*greeted && c->len == c->taken))
			whole_ns = now_ns();	/* the pause may have been long */
		else if (open && now - whole_ns > CONN_WAIT_NS)
			open = conn_end(c, "gamer does not answer");
		if (fds[1].revents || (fds[2].revents & (POLLERR | POLLHUP)))
			return EX_OK;
		if (!open)
			return EX_UNAVAILABLE;
	}
	return EX_OK;
}

static void events_stop(int sig)
{
	(void)sig;
	_exit(EX_OK);
}

static int cmd_events(void)
{
	static struct conn conn;
	const char *path = args.events.trace;
	bool greeted = false;
	int code;

	out_check(path, "events");
	events_ask(&conn);
	if (path) {
		/* before there is a file that must end whole */
		code = signals_open((const int[]){ SIGINT, SIGTERM, SIGHUP, 0 });
		trace_open(path);
		code = events_follow(&conn, code, -1, &greeted);
		return trace_close(code, greeted, conn.fd < 0 ? conn.why : NULL);
	}
	/* nothing to tidy up, and a write to a reader that has stopped must not hold us */
	signal(SIGINT, events_stop);
	signal(SIGTERM, events_stop);
	signal(SIGHUP, events_stop);
	code = events_follow(&conn, -1, STDOUT_FILENO, &greeted);
	if (code == EX_IOERR)
		note("events: cannot write: %s", strerror(errno));
	else if (conn.fd < 0)
		note("events: %s", conn.why);
	return code;
}

/* ==== clients 4: top, its terminal ==================================================== */

#define TOP_THREADS	512		/* more than an answer has room for */
#define TOP_HEADS	16
#define TOP_PERIOD_NS	NSEC_PER_SEC

struct top_thread {
	u32 tid;
	u64 ns[2];			/* so far: on a CPU, and ready without one */
	double share[2];		/* of the time since the answer before, in %; NAN: not known */
	const char *rest;		/* of its line */
};

/* What the threads can be sorted by; index of ns and share above. */
static const char *const top_sorts[] = { "run", "wait" };

static struct top {
	struct out out;			/* the screen; written once a frame */
	struct conn conn;
	char text[OUT_SIZE + 1];	/* the newest answer; top_take() cuts it into lines */
	const char *heads[TOP_HEADS];	/* lines of it that are no threads; top_take() */
	const char *titles;		/* of the columns in `rest`; top_take() */
	struct top_thread threads[TOP_THREADS], before[TOP_THREADS];	/* top_take() */
	u32 nr_heads, nr, nr_before;	/* of these */
	u64 at_ns, before_ns;		/* when their answers came, CLOCK_MONOTONIC */
	u64 asked_ns;			/* when the awaited answer was asked for, CLOCK_MONOTONIC */
	u32 sort;			/* index of top_sorts; top_asked() */
	bool plain;			/* no terminal: no escape codes, all rows; cmd_top() */
	bool color;			/* the person has nothing against it; cmd_top() */
	bool keys;			/* stdin is a terminal; top_enter() */
	bool shown;			/* the terminal is ours; top_enter(), top_leave() */
	u32 width, height;		/* of the screen; top_size() */
	u32 row;			/* rows written; top_row() */
	struct termios saved;		/* the terminal as it was; top_enter() */
} top;

/* Gives the terminal back. Async-signal-safe: also called when we crash. */
static void top_leave(void)
{
	static const char restore[] = "\033[?2026l\033[0m\033[?7h\033[?25h\033[?1049l";

	if (!top.shown)
		return;
	top.shown = false;
	if (write(STDOUT_FILENO, restore, sizeof(restore) - 1) < 0)
		top.shown = false;	/* the terminal is gone */
	if (top.keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &top.saved);
}

/* Takes the terminal: other screen, no cursor, no line wrap, keys as they are pressed. */
static void top_enter(void)
{
	static const char take[] = "\033[?1049h\033[?25l\033[?7l\033[2J";
	struct termios raw = top.saved;
	sigset_t stop;

	/* In the background we stop here, and must not when we give it back. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTTOU);
	sigprocmask(SIG_UNBLOCK, &stop, NULL);
	top.keys = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &raw);
	top.saved = raw;
	raw.c_lflag &= ~(ICANON | ECHO);
	raw.c_iflag &= ~(IXON | ICRNL);		/* Ctrl-S would hold us, and signals with us */
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (top.keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	top.shown = true;
	out_put(&top.out, take, sizeof(take) - 1);
}

static void top_crash(int sig)
{
	top_leave();
	raise(sig);		/* its own handler is gone: SA_RESETHAND */
}

static void top_size(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize ws = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) || !ws.ws_col) {
		ws.ws_col = columns ? strtoul(columns, NULL, 10) : 0;
		ws.ws_row = 0;
	}
	top.width = ws.ws_col ? MIN(ws.ws_col, 1000u) : 80;
	top.height = ws.ws_row ? ws.ws_row : 24;
}

/* Has the locale, as far as one is set, more than ASCII? */
static bool top_utf8(void)
{
	static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
	const char *value = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names) && (!value || !*value); i++)
		value = getenv(names[i]);
	return value && (strcasestr(value, "utf-8") || strcasestr(value, "utf8"));
}

/* ==== clients 5: top, what came and its screen ======================================= */

/* By the chosen share, the largest first, what is not known last. */
static int top_compare(const void *a, const void *b)
{
	const struct top_thread *s = a, *t = b;
	double x = s->share[top.sort], y = t->share[top.sort];

	return !!isnan(x) - !!isnan(y) ? : CMP(y, x) ? : CMP(s->tid, t->tid);
}

/* A thread's line, behind its first word; false: it is none. */
static bool top_thread_read(const char *s, struct top_thread *t)
{
	u32 i, k;
	int n;

	if (sscanf(s, "%" SCNu32 " %" SCNu64 " %" SCNu64 " %n", &t->tid, &t->ns[0], &t->ns[1], &n) != 3)
		return false;
	t->rest = s + n;
	t->share[0] = t->share[1] = NAN;
	for (i = 0; i < top.nr_before; i++)
		for (k = 0; k < 2 && top.before[i].tid == t->tid; k++)
			if (t->ns[k] >= top.before[i].ns[k])
				t->share[k] = (t->ns[k] - top.before[i].ns[k]) * 100.0 /
					      (top.at_ns - top.before_ns);
	return true;
}

/* Takes an answer behind its end. Returns why it is none of gamer's, or NULL. */
static const char *top_take(void)
{
	const char *why = conn_lacks(&top.conn);
	char *line = top.text, *next;

	if (why)
		return why;
	if (strncmp(top.conn.buf, "gamer ", 6) || !ends_with(top.conn.buf, "\n\n"))
		return "the answer does not come from gamer";
	top.conn.buf[top.conn.len - 2] = 0;
	strcpy(top.text, top.conn.buf);
	memcpy(top.before, top.threads, sizeof(top.before));
	top.nr_before = top.nr;
	top.before_ns = top.at_ns;
	top.at_ns = now_ns();
	top.nr = top.nr_heads = 0;
	top.titles = "";
	for (; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (!strncmp(line, "thread ", 7))
			top.nr += top.nr < TOP_THREADS && top_thread_read(line + 7, &top.threads[top.nr]);
		else if (!strncmp(line, "titles ", 7))
			top.titles = line + 7;
		else if (top.nr_heads < TOP_HEADS)
			top.heads[top.nr_heads++] = line;
	}
	return NULL;
}

/* A row, as much as there is room for; `style` is an SGR code or NULL. */
__attribute__((format(printf, 2, 3)))
static void top_row(const char *style, const char *fmt, ...)
{
	u32 left = top.width, c;
	size_t n = 0, len;
	char text[1024];
	va_list ap;

	if (!top.plain && top.row == top.height)
		return;
	va_start(ap, fmt);
	text_vf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (; text[n]; n += len) {
		len = utf8_next(text + n, SIZE_MAX, &c);
		if (text_columns(c) > left)
			break;
		left -= text_columns(c);
	}
	style = top.color ? style : NULL;
	top.row++;
	if (!top.plain)
		out_f(&top.out, "\033[%u;1H\033[K", top.row);
	if (style)
		out_f(&top.out, "\033[%sm", style);
	out_put(&top.out, text, n);
	if (style)
		out_f(&top.out, "\033[0m");
	if (top.plain)
		out_f(&top.out, "\n");
}

#define TOP_BOLD	"1"	/* styles */
#define TOP_FAINT	"2"

static void top_draw(void)
{
	char share[2][16];
	u32 i, k, last;

	if (!top.plain)
		out_f(&top.out, "\033[?2026h");
	qsort(top.threads, top.nr, sizeof(top.threads[0]), top_compare);
	top.row = 0;
	for (i = 0; i < top.nr_heads; i++)
		top_row(i ? NULL : TOP_BOLD, "%s", top.heads[i]);
	top_row(TOP_FAINT, "%8s %6s %6s  %s", "tid", "run%", "wait%", top.titles);
	last = top.plain ? UINT32_MAX : top.height - MIN(top.height, 2u);
	for (i = 0; i < top.nr && (top.row < last || (top.row == last && i + 1 == top.nr)); i++) {
		for (k = 0; k < 2; k++)
			snprintf(share[k], sizeof(share[k]), isnan(top.threads[i].share[k]) ? "-" : "%.1f",
				 top.threads[i].share[k]);
		top_row(NULL, "%8u %6s %6s  %s", top.threads[i].tid, share[0], share[1], top.threads[i].rest);
	}
	if (i < top.nr && top.row <= last)
		top_row(TOP_FAINT, "%u more threads", top.nr - i);
	if (!top.plain) {
		if (top.row < top.height)	/* where it is full the cursor is on its last character */
			out_f(&top.out, "\033[%u;1H\033[J", top.row + 1);
		top.row = top.height - 1;
		i = top.conn.fd >= 0 ? (now_ns() - top.asked_ns) / NSEC_PER_SEC : 0;
		top_row(TOP_FAINT, i > 1 ? "q quit  s sorted by %s  no answer for %u s" :
			"q quit  s sorted by %s", top_sorts[top.sort], i);
		out_f(&top.out, "\033[?2026l");
	}
	out_flush(&top.out);
}

/* ==== clients 6: top, the loop ======================================================= */

/* Waits for one answer; only where nothing else goes on. */
static void top_fetch(void)
{
	const char *why;

	conn_fetch(&top.conn, "top");
	why = top_take();
	if (why)
		die(EX_UNAVAILABLE, "top: %s", why);
}

/* One snapshot; of two answers, so that there are shares of time. */
static int top_once(void)
{
	top.plain = true;
	top.color = false;
	top_fetch();
	usleep(500000);
	top_fetch();
	top_draw();
	std_out.failed = top.out.failed;	/* main() says it */
	return EX_OK;
}

/* Takes signals and keys, of which *any says whether there were some; false: asked to stop. */
static bool top_asked(const struct pollfd *fds, bool *any)
{
	struct signalfd_siginfo si;
	char keys[64];
	ssize_t n, i;

	*any = fds[0].revents || fds[1].revents;
	while (fds[0].revents && read(fds[0].fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGTSTP) {
			top_leave();
			kill(getpid(), SIGSTOP);
			top_enter();
			top.asked_ns = now_ns();	/* an answer may have waited for this process */
		} else if (si.ssi_signo != SIGWINCH) {
			return false;
		}
		top_size();
		out_f(&top.out, "\033[2J");
	}
	if (!fds[1].revents)
		return true;
	n = read(fds[1].fd, keys, sizeof(keys));
	for (i = 0; i < n && keys[i] != 'q'; i++)
		if (keys[i] == 's')
			top.sort = !top.sort;
	return n > 0 ? i == n : n < 0 && errno == EINTR;	/* 0: the terminal is gone */
}

/* Asks each second, until asked to stop (NULL); else says why not. */
static const char *top_loop(int signal_fd)
{
	u64 next_ns = top.at_ns + TOP_PERIOD_NS, now;
	const char *why;
	bool stale = true;

	for (;;) {
		struct pollfd fds[] = {
			{ signal_fd, POLLIN, 0 }, { top.keys ? STDIN_FILENO : -1, POLLIN, 0 },
			{ top.conn.fd, POLLIN, 0 },
		};

		if (stale)
			top_draw();
		if (top.out.failed)
			return "cannot write to the terminal";
		now = now_ns();
		poll(fds, ARRAY_SIZE(fds), next_ns > now ? (next_ns - now) / NSEC_PER_MSEC + 1 : 0);
		if (!top_asked(fds, &stale))
			return NULL;
		if (fds[2].revents && !conn_read(&top.conn)) {
			why = top_take();
			if (why)
				return why;
			stale = true;
		}
		now = now_ns();
		if (now < next_ns)
			continue;
		next_ns = now + TOP_PERIOD_NS;
		stale = true;
		if (top.conn.fd < 0)
			top.asked_ns = conn_ask(&top.conn, "top", NULL) ? now : 0;
		if (now - top.asked_ns > CONN_WAIT_NS)
			return "gamer does not answer";
	}
}

static int cmd_top(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM"), *why;
	int signal_fd;

	if (args.top.json)
		return conn_print("status");
	top.out.fd = STDOUT_FILENO;
	top.color = !no_color || !*no_color;
	text_ascii = !top_utf8();
	top_size();
	if (args.top.once || !isatty(STDOUT_FILENO) || !term || !strcmp(term, "dumb"))
		return top_once();
	top_fetch();		/* without a gamer the terminal stays as it is */
	signals_catch(top_crash);
	signal(SIGPIPE, SIG_IGN);
	atexit(top_leave);
	signal_fd = signals_open((const int[]){ SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH, 0 });
	top_enter();
	why = top_loop(signal_fd);
	top_leave();
	if (why)
		note("top: %s", why);
	return !why ? EX_OK : top.out.failed ? EX_IOERR : EX_UNAVAILABLE;
}

/* ======== 20. profile =============================================================== */

/*
 * gamer profile says where the time of a process tree goes. The profiler's BPF programs count times
 * and stacks; this section keeps the mappings of the tree's processes, names the stacks' addresses by
 * them, and prints the report. Start reading at cmd_profile().
 *
 * /proc/PID/maps ends with its process, so mappings come from perf's records of mappings, forks and
 * executions. /proc/PID/maps is read too while the process lives: only it shows what was mapped
 * before the recording, and which Windows module code without a file belongs to. Each file is named
 * by a descriptor when it is first seen, so that it can be read after it was replaced or deleted.
 * A child reads the files: they belong to others, and may lie on a server that never answers.
 */

/* ==== profile 1: types =============================================================== */

#define PROF_RING_PAGES		128	/* of perf records, per CPU: what any user may lock */
#define PROF_TURN_NS		(100 * NSEC_PER_MSEC)	/* how often records and /proc are read */
#define PROF_SETTLE_NS		(1 * NSEC_PER_MSEC)	/* a record is in its ring that long after its time */
#define PROF_AWAIT_MS		100	/* to wait for threads that are ending */
#define PROF_MODULES		4096	/* mapped files, each kept open */
#define PROF_MAPS		16384	/* mappings of code in one process, with those that it was forked with */
#define PROF_FILE_SYMBOLS	(1U << 20)	/* of one table; large browsers have as many */
#define PROF_SYMBOLS		(4U << 20)	/* in all: 96 MB */
#define PROF_ALIASES		16	/* names of one function that are compared */
#define PROF_NAME		192	/* bytes of a function name, with its 0 */
#define PROF_MANGLED		4096	/* bytes of a name to make readable, with its 0; longer ones stay as they are */
#define PROF_NOTES_BYTES	1024	/* of a section of notes, where a build ID is looked for */
#define PROF_LIST_BYTES		(64U << 20)	/* of a JIT compiler's list, or the kernel's */
#define PROF_FRAMES_BYTES	(3 * PROF_FRAMES * (PROF_NAME + 1) + 1)	/* of the names of a stack */
#define PROF_NAMES_BYTES	(256U << 20)	/* of the names of all stacks */
#define PROF_NAMES_NS		(10 * NSEC_PER_SEC)	/* to read names at the end */
#define PROF_NAMES_STEP_NS	(2 * NSEC_PER_SEC)	/* for a stack, and for each file of it that is read */
#define PROF_CACHE_FDS		1024	/* hardware counters, two a thread; beyond, none is shown */
#define PROF_TOP		10
#define PROF_TOP_STACKS		100	/* in JSON */
#define PROF_LINE		4096	/* of /proc/PID/maps: a path and what stands before it */
#define PROF_CALLS	(2 * PROF_SYSCALLS)	/* 64-bit calls by number, then 32-bit ones */

/* A function of a module, the kernel or a JIT compiler. */
struct prof_symbol {
	u64 addr;		/* offset in the module's file, else address in memory */
	u64 size : 62;		/* bytes; 0: unknown, up to the next symbol */
	u64 is_local : 1, is_weak : 1;	/* as ELF has it */
	const char *name;	/* not trusted */
};

struct prof_symbols {
	struct prof_symbol *list;	/* by address; prof_symbol_cmp() */
	u32 n;
	bool loaded;		/* the table was read, if there is one */
	bool cut;		/* there are more; prof_symbol_add(), prof_list_read(), prof_elf_read() */
};

/* A file that is mapped. */
struct prof_module {
	u64 dev, ino;		/* as the kernel shows them in mappings; 0, 0: no file */
	char *path;		/* as the process sees it; not trusted */
	int fd;			/* names the file, and cannot read it; -1: not found */
	const u8 *data;		/* the file in memory, of `size` bytes; NULL: none; prof_module_load() */
	size_t size;
	struct prof_symbols symbols;
};

struct prof_map {
	u64 start, end;		/* addresses */
	u64 offset;		/* of start in the file */
	u32 module;		/* index into prof.modules */
};

/* The mappings of a process from its fork, or its last exec, on. */
struct prof_image {
	s32 pid;
	u32 uid;		/* of the process; ~0: not known; prof_image_look() */
	u64 from_ns;		/* CLOCK_MONOTONIC */
	u64 look_ns;		/* when /proc/PID/maps is read next */
	u64 look_step_ns;	/* time to the reading after that; it doubles */
	bool gone;		/* there is a newer image, or the first thread ended: the number may be another's */
	struct prof_map *maps;	/* the newest last; they only grow, so that forks need no copy */
	u32 nr_maps;
	u32 parent, nr_parent;	/* before maps come the first nr_parent ones of prof.images[parent] */
	u32 nr_before;		/* these, and what comes before them; prof_image_add() */
	struct prof_symbols jit;	/* from /tmp/perf-PID.map */
};

/* Times off the CPU at one place, as BPF counted them. */
struct prof_place {
	struct prof_key key;
	struct prof_off off;
	const char *names;	/* as struct prof_names has them; prof_symbolize() */
};

/* What the child that reads names sends. It reads hostile files, so gamer trusts nothing of it. */
struct prof_names {
	u32 place;		/* index into prof.places */
	u32 lost_symbols;	/* files with more symbols than were taken */
	u32 len;		/* bytes in text; of a message its length tells them */
	char text[PROF_FRAMES_BYTES];	/* the frames, innermost first, each 'k' (kernel) or 'u' (user), a
					 * name, 0; an empty one ends them */
};

/* A row of the report: a thread with all programs that it executed. */
struct prof_row {
	struct prof_thread t;
	struct prof_io_sum io;
};

enum prof_only { PROF_ALL, PROF_OFFCPU, PROF_SYSCALL };

enum prof_category {
	PROF_CAT_FILE, PROF_CAT_MEMORY, PROF_CAT_PROCESS, PROF_CAT_NETWORK, PROF_CAT_TIME, PROF_CAT_IPC,
	PROF_CAT_SECURITY, PROF_CAT_SIGNAL, PROF_CAT_OTHER, PROF_CAT_NR,
	PROF_CAT_READY = PROF_CAT_NR,	/* waits until a file is ready; reports count it as file_io */
	PROF_CAT_ALL
};

static const char *const prof_category_names[PROF_CAT_NR] = {
	"file_io", "memory", "process", "network", "time", "ipc", "security", "signal", "other",
};

static struct prof {
	enum prof_scope scope;
	s32 root;		/* process, or thread, that is followed; 0: all are */
	s32 child;		/* the command, 0: none; prof_spawn() */
	int go_fd;		/* a byte sent here lets the command execute; prof_spawn() */
	int status;		/* of the command, as wait() says; -1: the command runs */
	int signal_fd, pidfd;
	u64 start_ns, end_ns;	/* of the recording */
	u32 signal;		/* that asked gamer to stop, 0: none */
	void (*turn)(u64 now);	/* called every PROF_TURN_NS; cmd_profile() */
	const char *lacks;	/* missing capabilities, then /proc is the source; NULL: BPF is */

	struct bpf_link *iter;
	struct ring_buffer *ring;

	struct perf_event_mmap_page *rings[MAX_CPUS];	/* NULL: none on this CPU */
	u64 rings_lost;
	u32 records_lost;	/* threads whose records found no room */
	int cache_fds[PROF_CACHE_FDS];	/* pairs: references, misses */
	u32 nr_cache;		/* counters that are wanted; prof_cache_open() */

	struct prof_module *modules;
	struct prof_image *images;
	struct prof_thread *threads;	/* records of ended threads, then those of living ones */
	struct prof_place *places;
	struct prof_row *rows;		/* prof_rows_make() */
	u32 nr_modules, nr_images, nr_threads, nr_places, nr_rows;
	struct prof_row total;		/* of all rows */
	struct prof_symbols kernel;
	u32 nr_symbols;			/* of all files, at most PROF_SYMBOLS */
	u32 lost_symbols;		/* files with more symbols than were taken */
	u32 lost_names;			/* places without names; prof_symbolize() */
	struct prof_names names;	/* in the child those that it makes; prof_names_receive() */
	s32 reader;			/* the child; prof_names_from() */
	int reader_fd;			/* the socket between both */
	int reader_status;		/* of the child, as wait() says; -1: the child runs */
	struct prof_counts counts;
	u64 calls, calls32;		/* all system calls; 32-bit ones among them */
	u64 category[PROF_CAT_ALL];	/* calls */
	u16 order[PROF_CALLS];		/* calls, the most frequent first; prof_calls_make() */
} prof;		/* no initial values: cmd_profile() */

/* x86-64's system calls by number; the Makefile takes the names from the kernel's header, and sorts them. */
static const char *const prof_call_names[PROF_SYSCALLS] = {
#define S(nr, name, category) [nr] = #name,
#include "syscalls.h"
#undef S
};
static const u8 prof_call_categories[PROF_SYSCALLS] = {
#define S(nr, name, category) [nr] = PROF_CAT_##category,
#include "syscalls.h"
#undef S
};

/* Memory just allocated; without it the profile ends. */
static void *prof_need(void *p)
{
	if (!p)
		die(EX_OSERR, "profile: out of memory");
	return p;
}

/* Makes room for one more element in an array of n; the room doubles. */
static void *prof_grow(void *array, u32 n, size_t size)
{
	if (n & (n - 1))	/* 0 and powers of two are full */
		return array;
	return prof_need(realloc(array, (n ? n * 2UL : 1) * size));
}

/* An empty array is NULL, which qsort() must not be given. */
static void prof_sort(void *array, u32 n, size_t size, int (*compare)(const void *, const void *))
{
	if (n)
		qsort(array, n, size, compare);
}

/* ==== profile 2: address spaces ====================================================== */

/*
 * Finds the file of a mapping, by the mapping itself, else by its path as the process sees it, or as
 * gamer does: a process that has ended shows no path any more. No file is opened here, and none is
 * taken that is not the mapped one. Returns a descriptor that only names the file, or -1.
 */
static int prof_open_mapped(s32 pid, const struct prof_map *m, const char *path, u64 dev, u64 ino)
{
	char map[64], root[32], exe[32];
	const struct { const char *root, *path; } ways[] = {
		{ NULL, map }, { root, path }, { "/", path }, { NULL, exe },	/* a deleted program */
	};
	struct stat s;
	size_t i;
	int fd;

	snprintf(map, sizeof(map), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, m->start, m->end);
	snprintf(root, sizeof(root), "/proc/%d/root", pid);
	snprintf(exe, sizeof(exe), "/proc/%d/exe", pid);
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		fd = open_checked(ways[i].root, ways[i].path, RESOLVE_NO_SYMLINKS | RESOLVE_CACHED, &s);
		if (fd >= 0 && mapped_as(&s, dev, ino))
			return fd;
		fd_close(fd);
	}
	return -1;
}

/* Index of a mapping's module, new if need be; PROF_MODULES: there are too many. */
static u32 prof_module_of(s32 pid, const struct prof_map *m, const char *path, u64 dev, u64 ino)
{
	struct prof_module *mod;
	u32 i;

	for (i = 0; i < prof.nr_modules; i++) {
		mod = &prof.modules[i];
		if (ino ? mod->ino == ino && mod->dev == dev : !mod->ino && !strcmp(mod->path, path))
			break;
	}
	if (i == PROF_MODULES)
		return i;
	if (i == prof.nr_modules) {
		prof.modules = prof_grow(prof.modules, i, sizeof(*mod));
		prof.modules[i] = (struct prof_module){ .dev = dev, .ino = ino, .fd = -1,
							.path = prof_need(strdup(path)) };
		prof.nr_modules++;
	}
	mod = &prof.modules[i];
	if (ino && mod->fd < 0)
		mod->fd = prof_open_mapped(pid, m, path, dev, ino);
	return i;
}

/* The newest image of a process; NULL: the process is not of the tree. */
static struct prof_image *prof_image_of(s32 pid)
{
	u32 i;

	for (i = prof.nr_images; i-- > 0;)
		if (prof.images[i].pid == pid)
			return &prof.images[i];
	return NULL;
}

/* A process as it begins: with the mappings that `from`, which forked it, has now, or with none (NULL). */
static void prof_image_add(s32 pid, const struct prof_image *from, u64 at_ns)
{
	struct prof_image *old = prof_image_of(pid);
	struct prof_image im = {
		.pid = pid, .uid = from ? from->uid : old ? old->uid : ~0U, .from_ns = at_ns,
		.look_ns = at_ns, .look_step_ns = 2 * PROF_TURN_NS,
	};

	if (from) {
		im.parent = from->nr_maps ? from - prof.images : from->parent;
		im.nr_parent = from->nr_maps ? : from->nr_parent;
		im.nr_before = from->nr_maps + from->nr_before;
	}
	if (old)
		old->gone = true;
	prof.images = prof_grow(prof.images, prof.nr_images, sizeof(im));
	prof.images[prof.nr_images++] = im;
}

/* Is it a Windows program or library? Wine may copy its code to memory that has no file. */
static bool prof_is_pe(const char *path)
{
	static const char *const ends[] = { ".dll", ".exe", ".drv", ".sys", ".ocx", ".cpl", ".acm" };
	const char *dot = strrchr(path, '.');
	size_t i;

	for (i = 0; dot && i < ARRAY_SIZE(ends); i++)
		if (!strcasecmp(dot, ends[i]))
			return true;
	return false;
}

/* The mapping before the first *n of *im, which become those before it; NULL: there is none. */
static const struct prof_map *prof_map_before(const struct prof_image **im, u32 *n)
{
	if (!*n) {
		*n = (*im)->nr_parent;
		if (!*n)
			return NULL;
		*im = &prof.images[(*im)->parent];
	}
	return &(*im)->maps[--*n];
}

static void prof_map_add(struct prof_image *im, struct prof_map m, const char *path, u64 dev, u64 ino)
{
	const struct prof_image *of = im;
	const struct prof_map *old;
	u32 n = im->nr_maps;

	m.module = n + im->nr_before < PROF_MAPS ? prof_module_of(im->pid, &m, path, dev, ino) : PROF_MODULES;
	if (m.module == PROF_MODULES) {
		prof.rings_lost++;
		return;
	}
	/*
	 * A record says "//anon" for memory of a Windows module, which only a look at all mappings can
	 * name. The record may come after the look, whose name stays then.
	 */
	while ((old = prof_map_before(&of, &n)))
		if (old->start == m.start && old->end == m.end &&
		    ((old->offset == m.offset && old->module == m.module) ||
		     (!strcmp(path, "//anon") && !prof.modules[old->module].ino)))
			return;
	im->maps = prof_grow(im->maps, im->nr_maps, sizeof(m));
	im->maps[im->nr_maps++] = m;
}

/*
 * Reads the mappings of code from /proc/PID/maps. Code without a file that follows a Windows module
 * in memory belongs to that module.
 */
static void prof_image_look(struct prof_image *im)
{
	static const char deleted[] = " (deleted)";	/* the kernel adds it to a path */
	char line[PROF_LINE + 128], path[PROF_LINE + 1], perms[8], pe[PROF_LINE + 1] = "";
	u64 ino, pe_start = 0, end = 0;
	struct prof_map m = { 0 };
	u32 major, minor;
	struct stat s;
	bool of_pe;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/maps", im->pid);
	f = fopen(line, "re");
	if (f && !fstat(fileno(f), &s))
		im->uid = s.st_uid;
	for (; f && fgets(line, sizeof(line), f); end = m.end) {
		path[0] = 0;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64 " %4096[^\n]",
			   &m.start, &m.end, perms, &m.offset, &major, &minor, &ino, path) < 7)
			continue;
		if (ends_with(path, deleted))
			path[strlen(path) - strlen(deleted)] = 0;
		if (m.start != end || (ino && !prof_is_pe(path)))
			pe[0] = 0;
		if (ino && prof_is_pe(path) && strcmp(path, pe)) {
			strcpy(pe, path);
			pe_start = m.start - m.offset;
		}
		of_pe = !ino && pe[0] && path[0] != '[';
		if (of_pe)
			m.offset = m.start - pe_start;
		if (perms[2] == 'x')
			prof_map_add(im, m, of_pe ? pe : path[0] ? path : "//anon", (u64)major << 32 | minor, ino);
	}
	if (f)
		fclose(f);
}

static void prof_images_look(u64 now, bool all)
{
	struct prof_image *im;

	for (im = prof.images; im < prof.images + prof.nr_images; im++) {
		if (im->gone || (!all && now < im->look_ns))
			continue;
		/* signals wait meanwhile: images that are left out now come next time, or never */
		if (now_ns() - now > (all ? 50 : 1) * PROF_TURN_NS)
			break;
		prof_image_look(im);
		im->look_ns = now + im->look_step_ns;
		im->look_step_ns *= 2;
	}
}

/* ==== profile 3: perf's records of mappings ========================================== */

/* The kinds of records that are read; behind each the kernel puts pid, tid (u32) and time (u64). */
struct prof_record {
	struct perf_event_header head;
	s32 pid;
	s32 tid_or_ppid;
	union {
		struct {
			u64 addr, len, offset;
			u32 major, minor;
			u64 ino, ino_generation;
			u32 prot, flags;
			char path[PATH_MAX + 64];
		} map;
		s32 tid;	/* of a fork or an end */
	};
};

static int prof_perf_open(struct perf_event_attr *attr, s32 pid, int cpu)
{
	attr->size = sizeof(*attr);
	return syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static void prof_rings_open(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_DUMMY,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME, .sample_id_all = 1,
		.mmap = 1, .mmap2 = 1, .comm = 1, .comm_exec = 1, .task = 1,
		.use_clockid = 1, .clockid = CLOCK_MONOTONIC, .exclude_kernel = 1,
	};
	u32 cpu, n = 0;

	for (cpu = 0; cpu < MAX_CPUS; cpu++) {
		int fd = prof_perf_open(&attr, -1, cpu);	/* -1: no such CPU, or offline */
		void *p = fd < 0 ? MAP_FAILED : mmap(NULL, (PROF_RING_PAGES + 1) * sysconf(_SC_PAGESIZE),
						     PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		prof.rings[cpu] = p == MAP_FAILED ? NULL : p;
		n += p != MAP_FAILED;
	}
	if (!n)
		note("profile: no records of mappings (%s): programs that end early stay without names",
		     strerror(errno));
}

/* Copies `size` bytes at position `at` out of a ring. */
static void prof_ring_copy(const struct perf_event_mmap_page *ring, u64 at, void *to, size_t size)
{
	const char *data = (const char *)ring + ring->data_offset;
	size_t first;

	at &= ring->data_size - 1;
	first = MIN(size, ring->data_size - at);
	memcpy(to, data + at, first);
	memcpy((char *)to + first, data, size - first);
}

static void prof_record_take(struct prof_record *r, u64 at)
{
	struct prof_image *im = prof_image_of(r->head.type == PERF_RECORD_FORK ? r->tid_or_ppid : r->pid);
	struct prof_map m = { .start = r->map.addr, .end = r->map.addr + r->map.len, .offset = r->map.offset };

	if (r->head.type == PERF_RECORD_LOST)
		prof.rings_lost++;
	if (!im)
		return;
	if (r->head.type == PERF_RECORD_FORK && r->pid != r->tid_or_ppid) {
		prof_image_add(r->pid, im, at);
	} else if (r->head.type == PERF_RECORD_COMM && r->head.misc & PERF_RECORD_MISC_COMM_EXEC) {
		prof_image_add(r->pid, NULL, at);
	} else if (r->head.type == PERF_RECORD_EXIT) {
		im->gone |= r->tid == r->pid;
	} else if (r->head.type == PERF_RECORD_MMAP2) {
		r->map.path[sizeof(r->map.path) - 1] = 0;
		prof_map_add(im, m, r->map.path, (u64)r->map.major << 32 | r->map.minor, r->map.ino);
	}
}

/*
 * Takes all records up to a time, in the order of their times over all rings, because a process may
 * be forked on one CPU and map its files on another.
 */
static void prof_rings_read(u64 until)
{
	static struct prof_record r;

	for (;;) {
		struct perf_event_mmap_page *ring = NULL, *p;
		u64 first = until + 1, at;
		u32 cpu;

		for (cpu = 0; cpu < MAX_CPUS; cpu++) {
			p = prof.rings[cpu];
			if (!p || __atomic_load_n(&p->data_head, __ATOMIC_ACQUIRE) == p->data_tail)
				continue;
			prof_ring_copy(p, p->data_tail, &r.head, sizeof(r.head));
			prof_ring_copy(p, p->data_tail + r.head.size - sizeof(at), &at, sizeof(at));
			if (at && at < first) {
				first = at;
				ring = p;
			}
		}
		if (!ring)
			return;
		prof_ring_copy(ring, ring->data_tail, &r.head, sizeof(r.head));
		prof_ring_copy(ring, ring->data_tail, &r, MIN(r.head.size, sizeof(r)));
		__atomic_store_n(&ring->data_tail, ring->data_tail + r.head.size, __ATOMIC_RELEASE);
		prof_record_take(&r, first);
	}
}

/* Opens the counters of cache references and misses for a thread and what it starts. */
static void prof_cache_open(s32 tid)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE, .inherit = 1,
		.disabled = prof.child > 0, .enable_on_exec = prof.child > 0,
	};
	u32 i;

	for (i = 0; i < 2 && !args.profile.only; i++) {
		attr.config = i ? PERF_COUNT_HW_CACHE_MISSES : PERF_COUNT_HW_CACHE_REFERENCES;
		if (prof.nr_cache < PROF_CACHE_FDS)
			prof.cache_fds[prof.nr_cache] = prof_perf_open(&attr, tid, -1);
		prof.nr_cache++;
	}
}

/* Adds up references and misses of all threads; false: the hardware did not count one of them. */
static bool prof_cache_read(u64 sum[2])
{
	u64 n;
	u32 i;

	for (i = 0; i < MIN(prof.nr_cache, PROF_CACHE_FDS); i++) {
		if (read(prof.cache_fds[i], &n, sizeof(n)) != sizeof(n))
			return false;
		sum[i % 2] += n;
	}
	return prof.nr_cache && prof.nr_cache <= PROF_CACHE_FDS;
}

/* ==== profile 4: symbols ============================================================= */

/* By address; of several symbols at one address the largest comes first. */
static int prof_symbol_cmp(const void *a, const void *b)
{
	const struct prof_symbol *x = a, *y = b;

	return CMP(x->addr, y->addr) ? : CMP(y->size, x->size);
}

/* Adds a symbol; false: there are too many. */
static bool prof_symbol_add(struct prof_symbols *s, struct prof_symbol sym)
{
	if (s->n == PROF_FILE_SYMBOLS || prof.nr_symbols == PROF_SYMBOLS) {
		s->cut = true;
		return false;
	}
	s->list = prof_grow(s->list, s->n, sizeof(*s->list));
	s->list[s->n++] = sym;
	prof.nr_symbols++;
	return true;
}

/*
 * Of several names of a function the one with the lowest rank is shown. A public name has neither an
 * underscore at its begin nor a version at its end.
 */
static u32 prof_symbol_rank(const struct prof_symbol *s)
{
	size_t len = strnlen(s->name, 255);
	const char *at = s->name + len;

	while (at > s->name && at[-1] >= '0' && at[-1] <= '9')
		at--;
	return (!len) << 13 | (!s->size) << 12 | s->is_local << 11 | (s->name[0] == '_') << 10 |
	       (memchr(s->name, '@', len) || (*at && at > s->name && at[-1] == '_')) << 9 | s->is_weak << 8 | len;
}

/* The symbol that holds an address, or NULL; of several the one with the best name. */
static const struct prof_symbol *prof_symbol_at(const struct prof_symbols *s, u64 addr)
{
	const struct prof_symbol *first, *best, *sym;
	u32 low = 0, high = s->n, mid, rank, least = 0;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (s->list[mid].addr <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return NULL;
	for (first = &s->list[low - 1]; first > s->list && first[-1].addr == first->addr; first--)
		;
	if (first->size && addr - first->addr >= first->size)
		return NULL;
	for (best = sym = first; sym < s->list + low && sym < first + PROF_ALIASES; sym++) {
		rank = prof_symbol_rank(sym);
		if (sym == first || rank < least || (rank == least && strcmp(sym->name, best->name) < 0)) {
			best = sym;
			least = rank;
		}
	}
	return best;
}

/* A file whose symbols are read, and where they go. */
struct prof_elf {
	const struct elf_file *program;	/* whose segments say where a symbol lies in the mapped file */
	const char *data;		/* the symbols' file in memory, of `size` bytes; behind it comes a 0 */
	size_t size;
	struct prof_symbols *to;
};

static bool prof_elf_symbol(void *ctx, const Elf64_Sym *sym, u64 name_at)
{
	u32 type = ELF64_ST_TYPE(sym->st_info), bind = ELF64_ST_BIND(sym->st_info);
	struct prof_elf *e = ctx;
	u64 at = elf_offset(e->program, sym->st_value);

	return !at || sym->st_shndx == SHN_UNDEF || sym->st_shndx == SHN_ABS || name_at >= e->size ||
	       (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) ||
	       prof_symbol_add(e->to, (struct prof_symbol){ .addr = at, .size = sym->st_size,
			       .is_local = bind == STB_LOCAL, .is_weak = bind == STB_WEAK, .name = e->data + name_at });
}

/* Maps a file, with a page of zeros behind it, where its last string ends; NULL: it cannot be mapped. */
static const void *prof_file_map(int fd, size_t *size)
{
	struct stat s;
	void *at;

	if (fstat(fd, &s))
		return NULL;
	*size = s.st_size;
	at = mmap(NULL, *size + sysconf(_SC_PAGESIZE), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED || mmap(at, *size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
		return NULL;
	return at;
}

/* Takes the symbols of the first table of that type; false: the file has none. */
static bool prof_elf_read(struct prof_elf *e, const struct elf_file *f, u32 type)
{
	Elf64_Shdr table;

	if (!elf_find(f, type, &table))
		return false;
	e->to->cut |= !elf_symbols(f, &table, PROF_FILE_SYMBOLS, e, prof_elf_symbol);
	return true;
}

/* Opens for reading what a descriptor of open_checked() names, and closes that descriptor; -1: none. */
static int prof_reopen(int named)
{
	int fd = named < 0 ? -1 : file_reopen(named);

	fd_close(named);
	return fd;
}

/* A note of a file, as far as a build ID may reach. */
struct prof_note {
	Elf64_Nhdr head;
	char name[4];
	u8 id[32];
};

static bool prof_build_id(const struct elf_file *f, struct prof_note *note)
{
	const Elf64_Nhdr *head = &note->head;
	Elf64_Shdr sh;
	u64 at;
	u32 i;

	for (i = 0; elf_section(f, i, &sh); i++) {
		if (sh.sh_type != SHT_NOTE)
			continue;
		for (at = 0; at < MIN(sh.sh_size, PROF_NOTES_BYTES);) {
			*note = (struct prof_note){ 0 };
			if (pread(f->fd, note, sizeof(*note), sh.sh_offset + at) < 0)
				break;
			if (head->n_type == NT_GNU_BUILD_ID && !memcmp(note->name, "GNU", sizeof(note->name)) &&
			    head->n_descsz >= 2 && head->n_descsz <= sizeof(note->id))
				return true;
			/* both are padded to 4 bytes */
			at += sizeof(*head) + (head->n_namesz + 3ULL) / 4 * 4 + (head->n_descsz + 3ULL) / 4 * 4;
		}
	}
	return false;
}

/* Opens the file where distributions put the symbols of a stripped file, by its build ID; -1: none. */
static int prof_debug_open(const struct elf_file *f)
{
	struct prof_note note;
	char path[128];
	struct stat s;
	u32 k, n;

	if (!prof_build_id(f, &note))
		return -1;
	n = snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/%02x/", note.id[0]);
	for (k = 1; k < note.head.n_descsz; k++)
		n += snprintf(path + n, sizeof(path) - n, "%02x", note.id[k]);
	snprintf(path + n, sizeof(path) - n, ".debug");
	return prof_reopen(open_checked(NULL, path, 0, &s));
}

/* The child sends the names of a place, of `len` bytes, or 0: it goes on. */
static void prof_names_send(u32 len)
{
	send(prof.reader_fd, &prof.names, offsetof(struct prof_names, text) + len, MSG_NOSIGNAL);
}

/* Reads the symbols of a module's file, and those of its debug file where the file was stripped. */
static void prof_module_load(struct prof_module *mod)
{
	struct elf_file program, debug;
	struct prof_elf e = { .program = &program, .to = &mod->symbols };
	int fd, debug_fd = -1;

	if (mod->symbols.loaded)
		return;
	mod->symbols.loaded = true;
	fd = prof_reopen(mod->fd);
	if (fd < 0)
		return;
	mod->data = elf_open(&program, fd) ? prof_file_map(fd, &mod->size) : NULL;
	e.data = (const char *)mod->data;
	e.size = mod->size;
	if (e.data && !prof_elf_read(&e, &program, SHT_SYMTAB)) {
		prof_elf_read(&e, &program, SHT_DYNSYM);
		debug_fd = prof_debug_open(&program);
	}
	if (debug_fd >= 0) {
		e.data = elf_open(&debug, debug_fd) ? prof_file_map(debug_fd, &e.size) : NULL;
		if (e.data)
			prof_elf_read(&e, &debug, SHT_SYMTAB);
		close(debug_fd);
	}
	close(fd);
	prof.names.lost_symbols += mod->symbols.cut;
	prof_names_send(0);
	prof_sort(mod->symbols.list, mod->symbols.n, sizeof(*mod->symbols.list), prof_symbol_cmp);
}

/*
 * Takes a list of functions, one a line, with room for a byte behind the list: the kernel's "ADDRESS TYPE
 * NAME[\tMODULE]", or a JIT compiler's "ADDRESS SIZE NAME". Where gamer may not see the kernel's addresses, these
 * are 0, and no function is taken.
 */
static void prof_list_parse(struct prof_symbols *to, char *text, size_t len, bool kernel)
{
	struct prof_symbol sym = { 0 };
	char *line, *at, *next;

	for (line = text; line < text + len; line = next + 1) {
		next = memchr(line, '\n', text + len - line) ? : text + len;
		*next = 0;
		sym.addr = strtoull(line, &at, 16);
		if (kernel && sym.addr && strlen(at) > 3 && strchr("tTwW", at[1])) {
			sym.is_local = at[1] == 't';
			sym.name = at + 3;
			at[3 + strcspn(sym.name, "\t")] = 0;
		} else {
			sym.size = kernel ? 0 : strtoull(at, &at, 16);
			sym.name = at + 1;
			if (!sym.size || *at != ' ')
				continue;
		}
		if (!prof_symbol_add(to, sym))
			break;
	}
	prof_sort(to->list, to->n, sizeof(*to->list), prof_symbol_cmp);
}

/* Reads a list of functions, which stays in memory, and closes the file. */
static void prof_list_read(struct prof_symbols *to, int fd, bool kernel)
{
	static u64 left = 4ULL * PROF_LIST_BYTES;	/* for all lists together */
	size_t len = 0, room = 0, max = MIN(PROF_LIST_BYTES, left);
	char *text = NULL;
	struct stat s;
	ssize_t n;

	if (fd < 0)
		return;
	do {
		if (len == room) {
			room = MIN(MAX(2 * room, 1U << 16), max);
			text = prof_need(realloc(text, room + 1));
		}
		n = read(fd, text + len, room - len);
		len += MAX(n, 0);
	} while (n > 0);
	to->cut = !fstat(fd, &s) && len < (u64)s.st_size;
	left -= len;
	close(fd);
	prof_list_parse(to, text, len, kernel);
}

/*
 * Reads the JIT compiler's list of a process. Anybody may put a file, a link or a mount at that place,
 * so only a regular file of the process's user, or of root and readable for all, is taken.
 */
static void prof_jit_load(struct prof_image *im)
{
	char root[32], path[32];
	struct stat s;
	int fd;

	if (im->jit.loaded)
		return;
	im->jit.loaded = true;
	snprintf(root, sizeof(root), "/proc/%d/root", im->pid);
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", im->pid);
	fd = open_checked(root, path, 0, &s);
	if (fd < 0)
		fd = open_checked("/", path, 0, &s);
	if (fd < 0 || (s.st_uid != im->uid && (s.st_uid || !(s.st_mode & S_IROTH)))) {
		fd_close(fd);
		return;
	}
	prof_list_read(&im->jit, prof_reopen(fd), false);
	prof.names.lost_symbols += im->jit.cut;
	prof_names_send(0);
}

/* What is known of a code address. */
struct prof_code {
	struct prof_module *mod;	/* NULL: none */
	u64 offset;			/* in the module's file */
	const char *function;		/* NULL: unknown */
	u64 entry;			/* where the function begins, as `offset` counts */
};

static struct prof_code prof_code_at(struct prof_image *im, u64 addr)
{
	const struct prof_image *of = im;
	const struct prof_symbol *sym;
	struct prof_code code = { 0 };
	const struct prof_map *m;
	u32 n = im ? im->nr_maps : 0;

	do
		m = im ? prof_map_before(&of, &n) : NULL;
	while (m && (addr < m->start || addr >= m->end));
	if (!m)
		return code;
	code.mod = &prof.modules[m->module];
	code.offset = addr - m->start + m->offset;
	if (code.mod->ino) {
		prof_module_load(code.mod);
		sym = prof_symbol_at(&code.mod->symbols, code.offset);
	} else {
		prof_jit_load(im);
		sym = prof_symbol_at(&im->jit, addr);
	}
	if (sym && *sym->name) {
		code.function = sym->name;
		code.entry = sym->addr;
	}
	return code;
}

/*
 * The name of the function that the call instruction before a return address goes to, if it is not the
 * one that the frame before is in; NULL: the call is not direct. A function that keeps no frame pointer
 * hides its caller from the chain of frames, but the call that went to the caller names it.
 * `at` is the address before the return address.
 */
static const char *prof_called(const struct prof_code *at, const struct prof_code *inner)
{
	const struct prof_module *mod = at->mod;
	const struct prof_symbol *sym;
	s32 rel;

	if (!mod || !inner->mod || at->offset < sizeof(rel) || at->offset >= mod->size || !mod->data ||
	    mod->data[at->offset - sizeof(rel)] != 0xe8)
		return NULL;
	memcpy(&rel, mod->data + at->offset + 1 - sizeof(rel), sizeof(rel));
	sym = prof_symbol_at(&mod->symbols, at->offset + 1 + rel);
	return sym && *sym->name && sym->addr == at->offset + 1 + rel &&
	       (mod != inner->mod || sym->addr != inner->entry) ? sym->name : NULL;
}

/* ==== profile 5: frames of a stack =================================================== */

/* Reads a stack from BPF's map; no frames: it has no stack of that key. */
static const struct prof_stack *prof_stack_read(u64 key)
{
	static struct prof_stack stack;

	if (!key || bpf_map_lookup_elem(bpf_map__fd(st.skel->maps.prof_stacks), &key, &stack))
		stack.n = 0;
	stack.n = MIN(stack.n, (u64)PROF_FRAMES);
	return &stack;
}

/* Adds a frame, for which there is room. */
__attribute__((format(printf, 2, 3)))
static void prof_frame_add(char kind, const char *fmt, ...)
{
	struct prof_names *to = &prof.names;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(to->text + to->len + 1, PROF_NAME, fmt, ap);
	va_end(ap);
	to->text[to->len] = kind;
	to->len += strlen(to->text + to->len) + 1;
}

/* BPF's frames and the kernel's way into the switch, up to __schedule(), are left out. */
static void prof_frames_kernel(const struct prof_stack *stack)
{
	u32 begin = prof.names.len;
	const struct prof_symbol *sym;
	u32 i;

	for (i = 0; i < stack->n && stack->ip[i]; i++) {
		sym = prof_symbol_at(&prof.kernel, stack->ip[i]);
		if (sym)
			prof_frame_add('k', "%s", sym->name);
		else
			prof_frame_add('k', "0x%llx", stack->ip[i]);
		if (i < 12 && sym && !strcmp(sym->name, "__schedule"))
			prof.names.len = begin;
	}
}

/* A name of C++ or Rust as its author wrote it. */
struct prof_plain {
	jmp_buf full;
	size_t len;
	char text[PROF_NAME];
};

/* Leaves the demangler when the text is full: a hostile name of 400 bytes stands for one of gigabytes. */
static void prof_plain_add(const char *s, size_t len, void *ctx)
{
	struct prof_plain *p = ctx;

	len = MIN(len, sizeof(p->text) - 1 - p->len);
	memcpy(p->text + p->len, s, len);
	p->len += len;
	p->text[p->len] = 0;
	if (p->len == sizeof(p->text) - 1)
		longjmp(p->full, 1);
}

static void prof_function_add(const char *in_file)
{
	static char name[PROF_MANGLED];		/* the file may change while the name is read */
	static struct prof_plain p;
	volatile bool mangled;

	snprintf(name, sizeof(name), "%.*s", PROF_MANGLED - 1, in_file);
	mangled = name[0] == '_' && (name[1] == 'Z' || name[1] == 'R') && strlen(name) < sizeof(name) - 1;
	p.len = 0;
	if (mangled && !setjmp(p.full) && !rust_demangle_callback(name, 0, prof_plain_add, &p)) {
		p.len = 0;
		mangled = cplus_demangle_v3_callback(name, DMGL_PARAMS | DMGL_ANSI, prof_plain_add, &p);
	}
	prof_frame_add('u', "%s", mangled ? p.text : name);
}

static void prof_frames_user(struct prof_image *im, const struct prof_stack *stack)
{
	struct prof_code code, inner = { 0 };
	const char *called, *path, *slash;
	u32 i;

	for (i = 0; i < stack->n && stack->ip[i]; i++, inner = code) {
		/* a return address may lie behind the end of its function */
		code = prof_code_at(im, stack->ip[i] - !!i);
		called = i ? prof_called(&code, &inner) : NULL;
		if (called)
			prof_function_add(called);
		path = code.mod ? code.mod->path : "[unknown]";
		slash = strrchr(path, '/');
		if (code.function)
			prof_function_add(code.function);
		else if (!strncmp(path, "//anon", 6) || !*path)
			prof_frame_add('u', "[jit]");
		else if (path[0] == '[')
			prof_frame_add('u', "%s", path);
		else
			prof_frame_add('u', "%s+0x%" PRIx64, slash && slash[1] ? slash + 1 : path, code.offset);
		/* an address outside of code is no return address: the frames beyond are rubbish */
		if (i && !code.mod)
			break;
	}
}

static int prof_thread_cmp_id(const void *a, const void *b)
{
	return CMP(((const struct prof_thread *)a)->id, ((const struct prof_thread *)b)->id);
}

static const struct prof_thread *prof_thread_of(u32 id)
{
	struct prof_thread key = { .id = id };

	return prof.nr_threads ? bsearch(&key, prof.threads, prof.nr_threads, sizeof(key), prof_thread_cmp_id) : NULL;
}

/* Image that a thread's record belongs to: the newest one that is older than the record. */
static struct prof_image *prof_thread_image(const struct prof_thread *t)
{
	struct prof_image *best = NULL;
	u32 i;

	for (i = 0; t && i < prof.nr_images; i++)
		if (prof.images[i].pid == (s32)t->tgid && prof.images[i].from_ns <= t->start_ns)
			best = &prof.images[i];
	return best;
}

/* Number of places whose stacks the report shows. */
static u32 prof_shown(void)
{
	return MIN(prof.nr_places, args.profile.folded ? UINT32_MAX : args.profile.json ? PROF_TOP_STACKS : PROF_TOP);
}

/* What the child does: it names the stacks from that place on. */
static void prof_names_read(u32 place)
{
	struct prof_names *to = &prof.names;

	for (to->place = place; to->place < prof_shown(); to->place++) {
		const struct prof_key *key = &prof.places[to->place].key;

		to->len = 0;
		prof_frames_kernel(prof_stack_read(key->kstack));
		prof_frames_user(prof_thread_image(prof_thread_of(key->id)), prof_stack_read(key->ustack));
		to->text[to->len++] = 0;
		prof_names_send(to->len);
	}
}

/* ==== profile 6: the recording ======================================================= */

/* BPF's programs, and in which of enum prof_only's cases they run: bits. */
static const struct { const char *name, *target; u8 when; } prof_progs[] = {
	{ "prof_fork", "task_newtask", 1 << PROF_ALL | 1 << PROF_OFFCPU | 1 << PROF_SYSCALL },
	{ "prof_exec", "sched_process_exec", 1 << PROF_ALL | 1 << PROF_OFFCPU | 1 << PROF_SYSCALL },
	{ "prof_switch", "sched_switch", 1 << PROF_ALL | 1 << PROF_OFFCPU | 1 << PROF_SYSCALL },
	{ "prof_waking", "sched_waking", 1 << PROF_ALL | 1 << PROF_OFFCPU },
	{ "prof_sys_enter", "sys_enter", 1 << PROF_ALL | 1 << PROF_SYSCALL },
	{ "prof_io_start", "block_io_start", 1 << PROF_ALL },
	{ "prof_io_done", "block_io_done", 1 << PROF_ALL },
};

/* Forks the command, which waits before its exec until cmd_profile() has everything attached. */
static void prof_spawn(char **argv)
{
	/* a program that reads the report from standard output must find nothing else there */
	bool apart = (args.profile.json || args.profile.folded) && !args.profile.output;
	sigset_t none;
	int pair[2];
	u8 byte;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die(EX_OSERR, "profile: socketpair: %s", strerror(errno));
	fflush(NULL);
	prof.child = fork();
	if (prof.child < 0)
		die(EX_OSERR, "profile: fork: %s", strerror(errno));
	if (!prof.child) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGXFSZ, SIG_DFL);
		close(pair[0]);
		if (apart)
			dup2(STDERR_FILENO, STDOUT_FILENO);
		if (read(pair[1], &byte, 1) != 1)
			_exit(EX_SOFTWARE);		/* gamer died */
		execvp(argv[0], argv);
		byte = errno == ENOENT ? 127 : 126;
		note("profile: cannot run '%s': %s", argv[0], strerror(errno));
		if (write(pair[1], &byte, 1) != 1)
			_exit(EX_SOFTWARE);
		_exit(byte);
	}
	if (apart)
		note("profile: the command's output goes to standard error "
		     "(-o FILE keeps the report apart)");
	close(pair[1]);
	prof.go_fd = pair[0];
	prof.root = prof.child;
}

/* Loads only the profiler's own programs and maps; a running gamer's scheduler is not touched. */
static void prof_configure(struct gamer_bpf *skel, const struct btf *btf)
{
	const struct prof_symbols *k = &prof.kernel;
	struct bpf_program *prog;
	char type[64];
	size_t i;

	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, false);
	bpf_configure_maps(skel, true);
	for (i = 0; i < ARRAY_SIZE(prof_progs); i++) {
		snprintf(type, sizeof(type), "btf_trace_%s", prof_progs[i].target);
		prog = bpf_object__find_program_by_name(skel->obj, prof_progs[i].name);
		bpf_program__set_autoload(prog, btf__find_by_name_kind(btf, type, BTF_KIND_TYPEDEF) > 0 &&
					  prof_progs[i].when >> args.profile.only & 1);
	}
	bpf_program__set_autoload(skel->progs.prof_threads, true);
	bpf_program__set_autoattach(skel->progs.prof_threads, false);	/* it stays when the others go */
	skel->rodata->prof_min_ns = MAX(args.profile.min_us * NSEC_PER_USEC, 1);
	skel->rodata->prof_max_ns = args.profile.max_us ? args.profile.max_us * NSEC_PER_USEC : UINT64_MAX;
	skel->rodata->prof_offcpu = args.profile.only != PROF_SYSCALL;
	/* 0 stands for all in both; then come the states in their order */
	skel->rodata->prof_state = args.profile.state;
	skel->rodata->prof_kernel_stacks = k->n && !args.profile.user_stacks;
	for (i = 0; i < k->n && strcmp(k->list[i].name, "do_syscall_64"); i++)
		;
	skel->rodata->prof_entry = i < k->n ? k->list[i].addr : 0;
	for (; i < k->n && skel->rodata->prof_entry_end <= skel->rodata->prof_entry; i++)
		skel->rodata->prof_entry_end = k->list[i].addr;
	skel->rodata->prof_scope = prof.scope;
	skel->rodata->prof_command = prof.child > 0;
	skel->bss->prof_root = prof.root;
}

static int prof_on_ended(void *ctx, void *data, size_t size)
{
	(void)ctx;
	if (size == sizeof(struct prof_thread)) {
		prof.threads = prof_grow(prof.threads, prof.nr_threads, size);
		memcpy(&prof.threads[prof.nr_threads++], data, size);
	}
	return 0;
}

static void prof_load(void)
{
	const char *why = NULL;
	struct btf *btf = kernel_btf(&why);
	char *copy;
	int err;

	if (!btf)
		die(EX_UNAVAILABLE, "profile: not on this kernel: %s", why);
	if (!args.profile.user_stacks && args.profile.only != PROF_SYSCALL)
		prof_list_read(&prof.kernel, open("/proc/kallsyms", O_RDONLY | O_CLOEXEC), true);
	st.skel = bpf_open(&copy, false);
	if (!st.skel)
		die(EX_SOFTWARE, "profile: cannot open the BPF object: %s", strerror(errno));
	prof_configure(st.skel, btf);
	btf__free(btf);
	err = gamer_bpf__load(st.skel);
	free(copy);
	if (err == -EPERM || err == -EACCES)
		die(EX_NOPERM, "profile: the kernel lets gamer load no BPF programs (a container or a security "
		    "module?)");
	if (err)
		die(EX_SOFTWARE, "profile: the kernel refused the BPF programs: %s (-v shows why)", strerror(-err));
	prof.ring = ring_buffer__new(bpf_map__fd(st.skel->maps.prof_ended), prof_on_ended, NULL, NULL);
	prof.iter = bpf_program__attach_iter(st.skel->progs.prof_threads, NULL);
	if (!prof.ring || !prof.iter)
		die(EX_SOFTWARE, "profile: no ring or no iterator: %s", strerror(errno));
}

/* Walks over all tasks, to mark, list or collect; appends the records that come to prof.threads. */
static void prof_walk(enum prof_walk what)
{
	static struct prof_thread rows[32];
	int fd = bpf_iter_create(bpf_link__fd(prof.iter));
	struct prof_thread *row;
	ssize_t n;

	if (fd < 0)
		die(EX_SOFTWARE, "profile: cannot walk over the tasks: %s", strerror(errno));
	st.skel->bss->prof_walk = what;
	while ((n = read(fd, rows, sizeof(rows))) > 0)
		for (row = rows; row < rows + n / sizeof(*row); row++)
			prof_on_ended(NULL, row, sizeof(*row));
	close(fd);
}

/*
 * Marks the threads of the tree. A walk may show a child before its parent, so walks go on until
 * one marks no more. The command is marked by its exec.
 */
static void prof_mark_all(void)
{
	u32 before, i;

	if (prof.child) {
		prof_walk(PROF_WALK_MARK);	/* BPF learns what number the kernel has for it */
		prof_image_add(prof.child, NULL, 0);
		prof_cache_open(prof.child);
		return;
	}
	do {
		before = st.skel->bss->prof_marked;
		prof_walk(PROF_WALK_MARK);
	} while (st.skel->bss->prof_marked != before);
	if (!before)
		die(EX_NOINPUT, "profile: there is no %s %d", prof.scope == PROF_THREAD ? "thread" : "process",
		    prof.root);
	prof_walk(PROF_WALK_LIST);
	for (i = 0; i < prof.nr_threads; i++) {
		if (!prof_image_of(prof.threads[i].tgid))
			prof_image_add(prof.threads[i].tgid, NULL, 0);
		if (prof.scope != PROF_SYSTEM)
			prof_cache_open(prof.threads[i].tid);
	}
	prof.nr_threads = 0;
}

/* A signal that only gamer got is passed on to the command; Ctrl-C, from the kernel, reaches both. */
static void prof_signals_read(void)
{
	struct signalfd_siginfo si;
	int status;
	s32 pid;

	while (read(prof.signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCHLD) {
			/* /proc has the last figures of a command until it is waited for */
			if (prof.child && prof.status < 0 && !prof.end_ns)
				prof.turn(now_ns());
			while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
				if (pid == prof.child)
					prof.status = status;
				if (pid == prof.reader)
					prof.reader_status = status;
			}
			continue;
		}
		prof.signal = si.ssi_signo;
		if (prof.child && prof.status < 0 && si.ssi_code != SI_KERNEL)
			kill(prof.child, si.ssi_signo);
	}
}

/* Records until the command or process ends, a signal comes, or the time is over. */
static void prof_loop(void)
{
	u64 end_ns = args.profile.seconds ? prof.start_ns + args.profile.seconds * NSEC_PER_SEC :
		     UINT64_MAX, now, next_ns = 0;
	struct pollfd fds[] = {
		{ .fd = prof.signal_fd, .events = POLLIN },
		{ .fd = prof.pidfd, .events = POLLIN },
		{ .fd = prof.ring ? ring_buffer__epoll_fd(prof.ring) : -1, .events = POLLIN },
	};

	for (;;) {
		now = now_ns();
		if (now >= next_ns) {
			prof.turn(now);
			progress(prof.start_ns, "gamer: profiling for %llu s (Ctrl-C ends it)",
				 (now - prof.start_ns) / NSEC_PER_SEC);
			next_ns = now + PROF_TURN_NS;
		}
		if (now >= end_ns)
			break;
		if (poll(fds, ARRAY_SIZE(fds), (MIN(next_ns, end_ns) - now) / NSEC_PER_MSEC + 1) < 0)
			continue;
		if (fds[2].revents)
			ring_buffer__consume(prof.ring);
		prof_signals_read();
		if (prof.signal || prof.status >= 0 || (!prof.child && fds[1].revents) ||
		    (prof.scope == PROF_THREAD && prof.nr_threads))
			break;
	}
	prof.end_ns = now_ns();
	progress(0, NULL);
}

static void prof_turn(u64 now)
{
	prof_rings_read(now - PROF_SETTLE_NS);
	prof_images_look(now, false);
}

/* Adds up what each CPU counted; the structure holds nothing but counts. */
static void prof_syscalls_read(void)
{
	int cpus = libbpf_num_possible_cpus();
	size_t per_cpu = sizeof(prof.counts) / sizeof(u64), i;
	void *counts = calloc(MAX(cpus, 1), sizeof(prof.counts));
	u32 zero = 0;

	if (counts && !bpf_map_lookup_elem(bpf_map__fd(st.skel->maps.prof_syscalls), &zero, counts))
		for (i = 0; i < cpus * per_cpu; i++)
			((u64 *)&prof.counts)[i % per_cpu] += ((u64 *)counts)[i];
	free(counts);
}

static int prof_place_cmp(const void *a, const void *b)
{
	const struct prof_place *x = a, *y = b;

	return CMP(y->off.ns + y->off.wait_ns, x->off.ns + x->off.wait_ns);
}

/*
 * A thread that is ending is in no list of tasks any more, and BPF sends its record only at its last
 * switch. So wait until the records that were sent and the threads that are listed are all.
 */
static void prof_await_ends(void)
{
	u32 tries, ids, told, all;

	for (tries = 0; tries < PROF_AWAIT_MS; tries++) {
		ids = st.skel->bss->prof_ids;
		ring_buffer__consume(prof.ring);
		told = prof.nr_threads;
		prof_walk(PROF_WALK_LIST);
		all = prof.nr_threads;
		prof.nr_threads = told;
		if (all >= ids)
			break;
		usleep(1000);
	}
}

/* Stops the counting, then reads all that was counted. */
static void prof_collect(void)
{
	int places = bpf_map__fd(st.skel->maps.prof_offs);
	struct prof_key key, *last = NULL;

	prof_await_ends();
	gamer_bpf__detach(st.skel);
	ring_buffer__consume(prof.ring);
	prof_walk(PROF_WALK_COLLECT);
	prof.records_lost = st.skel->bss->prof_ids - prof.nr_threads;
	prof_rings_read(UINT64_MAX - 1);
	prof_images_look(prof.end_ns, true);
	for (; !bpf_map_get_next_key(places, last, &key); last = &key) {
		prof.places = prof_grow(prof.places, prof.nr_places, sizeof(*prof.places));
		prof.places[prof.nr_places] = (struct prof_place){ .key = key };
		prof.nr_places += !bpf_map_lookup_elem(places, &key, &prof.places[prof.nr_places].off);
	}
	prof_syscalls_read();
	prof_sort(prof.threads, prof.nr_threads, sizeof(*prof.threads), prof_thread_cmp_id);
	prof_sort(prof.places, prof.nr_places, sizeof(*prof.places), prof_place_cmp);
}

/* Takes a message of the child; false: there is none. *place: the first place that was not yet reached. */
static bool prof_names_receive(u32 *place)
{
	static size_t left = PROF_NAMES_BYTES;
	struct prof_names *n = &prof.names;
	ssize_t size = recv(prof.reader_fd, n, sizeof(*n), MSG_DONTWAIT);
	char *text;

	size -= offsetof(struct prof_names, text);
	if (size < 0)
		return false;
	prof.lost_symbols = MAX(prof.lost_symbols, n->lost_symbols);
	if (!size || n->place < *place || n->place >= prof_shown())
		return true;
	*place = n->place + 1;
	text = (size_t)size < left ? calloc(1, size + 2) : NULL;	/* it ends, whatever came */
	if (text) {
		left -= size;
		prof.places[n->place].names = memcpy(text, n->text, size);
		prof.lost_names--;
	}
	return true;
}

/* Has a child name the places from *place on, up to one that it fails at; false: no other child shall go on. */
static bool prof_names_from(u32 *place, u64 begin_ns)
{
	u64 now = now_ns(), heard_ns = now;
	bool ended = false;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return false;
	prof.reader_status = -1;
	prof.reader = fork();
	prof.reader_fd = pair[!prof.reader];
	close(pair[!!prof.reader]);
	if (!prof.reader) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		caps_set(caps_for(CAP_READ), caps_for(CAP_READ));
		seccomp_on();
		prof_names_read(*place);
		_exit(0);
	}
	while (prof.reader > 0 && !prof.signal && now - begin_ns < PROF_NAMES_NS &&
	       now - heard_ns < PROF_NAMES_STEP_NS) {
		struct pollfd fds[] = { { prof.signal_fd, POLLIN, 0 }, { prof.reader_fd, POLLIN, 0 } };

		if (prof_names_receive(place))
			heard_ns = now;
		else if (ended)
			break;
		else
			poll(fds, ARRAY_SIZE(fds), 100);
		prof_signals_read();
		ended = prof.reader_status >= 0;
		progress(begin_ns, "gamer: reading symbols (Ctrl-C ends it)");
		now = now_ns();
	}
	close(prof.reader_fd);
	if (prof.reader > 0 && prof.reader_status < 0)
		kill(prof.reader, SIGKILL);	/* prof_signals_read() waits for it */
	return prof.reader > 0 && !WIFEXITED(prof.reader_status);
}

/*
 * Names the stacks that the report shows. A child does it, whom a file that is broken or on a server
 * that never answers may cost its life or its time: that stack stays without names, and another child
 * goes on behind it. A signal, or PROF_NAMES_NS, ends that, and the report has the names so far.
 */
static void prof_symbolize(void)
{
	u32 asked = prof.signal, place;
	u64 begin_ns = now_ns();

	prof.lost_names = prof_shown();
	for (place = 0; place < prof_shown(); place++)
		prof.places[place].names = "u[not named]\0";
	prof.signal = 0;
	for (place = 0; place < prof_shown() && !prof.signal && now_ns() - begin_ns < PROF_NAMES_NS; place++)
		if (!prof_names_from(&place, begin_ns))
			break;
	progress(0, NULL);
	prof.signal = prof.signal ? : asked;
}

/* ==== profile 7: figures ============================================================= */

static int prof_row_cmp_ids(const void *a, const void *b)
{
	const struct prof_row *x = a, *y = b;

	return CMP(x->t.tgid, y->t.tgid) ? : CMP(x->t.tid, y->t.tid) ? : CMP(x->t.id, y->t.id);
}

static u64 prof_off_ns(const struct prof_thread *t)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i < PROF_STATE_NR; i++)
		sum += t->ns[i];
	return sum;
}

static int prof_row_cmp_time(const void *a, const void *b)
{
	u64 x = prof_off_ns(&((const struct prof_row *)a)->t);
	u64 y = prof_off_ns(&((const struct prof_row *)b)->t);

	return CMP(y, x) ? : prof_row_cmp_ids(a, b);
}

/* Adds a later record of the same thread, or any record to the total. */
static void prof_row_add(struct prof_row *to, const struct prof_row *r)
{
	u32 i;

	if (r->t.events && (!to->t.events || r->t.min_ns < to->t.min_ns))
		to->t.min_ns = r->t.min_ns;
	to->t.max_ns = MAX(to->t.max_ns, r->t.max_ns);
	to->t.wait_max_ns = MAX(to->t.wait_max_ns, r->t.wait_max_ns);
	for (i = 0; i < HIST_SLOTS; i++)
		to->t.waits[i] += r->t.waits[i];
	/* all from events to cpu_ns */
	for (i = offsetof(struct prof_thread, events); i < offsetof(struct prof_thread, waits); i += sizeof(u64))
		*(u64 *)((char *)&to->t + i) += *(const u64 *)((const char *)&r->t + i);
	to->io.n += r->io.n;
	to->io.ns += r->io.ns;
	to->io.bytes += r->io.bytes;
	to->io.max_ns = MAX(to->io.max_ns, r->io.max_ns);
}

/* Makes one row per thread of its records; the most time off the CPU comes first. */
static void prof_rows_make(void)
{
	int ios = bpf_map__fd(st.skel->maps.prof_io_sums);
	u32 i, n = 0;

	prof.rows = prof_need(calloc(MAX(prof.nr_threads, 1u), sizeof(*prof.rows)));
	for (i = 0; i < prof.nr_threads; i++) {
		prof.rows[i].t = prof.threads[i];
		/* none: the thread made no block requests */
		bpf_map_lookup_elem(ios, &prof.threads[i].id, &prof.rows[i].io);
	}
	prof_sort(prof.rows, prof.nr_threads, sizeof(*prof.rows), prof_row_cmp_ids);
	for (i = 0; i < prof.nr_threads; i++) {
		prof_row_add(&prof.total, &prof.rows[i]);
		if (n && prof.rows[n - 1].t.tgid == prof.rows[i].t.tgid &&
		    prof.rows[n - 1].t.tid == prof.rows[i].t.tid) {
			prof_row_add(&prof.rows[n - 1], &prof.rows[i]);
			memcpy(prof.rows[n - 1].t.comm, prof.rows[i].t.comm, sizeof(prof.rows[i].t.comm));
		} else {
			prof.rows[n++] = prof.rows[i];
		}
	}
	prof.nr_rows = n;
	prof_sort(prof.rows, n, sizeof(*prof.rows), prof_row_cmp_time);
}

/* Index of the call that a place has: 64-bit calls, 32-bit calls, then PROF_CALLS for none. */
static u32 prof_call_of(const struct prof_place *p)
{
	u16 nr = p->key.nr;

	return nr == PROF_NO_SYSCALL ? PROF_CALLS : (nr & PROF_IA32 ? PROF_SYSCALLS : 0) + nr % PROF_SYSCALLS;
}

static const char *prof_call_name(u32 call)
{
	static char text[24];

	if (call == PROF_CALLS)
		return "none";
	if (call < PROF_SYSCALLS && prof_call_names[call])
		return prof_call_names[call];
	snprintf(text, sizeof(text), call < PROF_SYSCALLS ? "syscall %u" : "ia32 %u", call % PROF_SYSCALLS);
	return text;
}

static u64 prof_count_of(u16 call)
{
	return prof.counts.n[call / PROF_SYSCALLS][call % PROF_SYSCALLS];
}

/* The most frequent calls first. */
static int prof_count_cmp(const void *a, const void *b)
{
	u16 x = *(const u16 *)a, y = *(const u16 *)b;

	return CMP(prof_count_of(y), prof_count_of(x)) ? : CMP(x, y);
}

/* The category of a 64-bit call. */
static u32 prof_category_of(u32 nr)
{
	return prof_call_names[nr] ? prof_call_categories[nr] : PROF_CAT_OTHER;
}

/* Adds the calls up by category, and sorts the numbers by their calls. */
static void prof_calls_make(void)
{
	u32 i;

	for (i = 0; i < PROF_CALLS; i++) {
		u64 n = prof_count_of(i);

		prof.order[i] = i;
		prof.calls += n;
		prof.calls32 += i >= PROF_SYSCALLS ? n : 0;
		prof.category[i < PROF_SYSCALLS ? prof_category_of(i) : PROF_CAT_OTHER] += n;
	}
	prof.calls += prof.counts.odd;
	prof.category[PROF_CAT_OTHER] += prof.counts.odd;
	qsort(prof.order, PROF_CALLS, sizeof(*prof.order), prof_count_cmp);
}

/* Calls of a category as reports show it. */
static u64 prof_category_calls(u32 category)
{
	return prof.category[category] + (category == PROF_CAT_FILE ? prof.category[PROF_CAT_READY] : 0);
}

/* Exit status of the command as a shell shows it. */
static int prof_exit_code(void)
{
	return WIFEXITED(prof.status) ? WEXITSTATUS(prof.status) : 128 + WTERMSIG(prof.status);
}

static double prof_seconds(void)
{
	return (prof.end_ns - prof.start_ns) / 1e9;
}

/*
 * What the tree is busy with. It is cpu_bound where it runs, or waits to run, for half of the time or
 * more and makes few system calls. Else the category decides that has most of `of`, which is calls or
 * waiting time. Waits for time, for other threads or for readiness are work of no kind.
 */
static const char *prof_behaviour(double cpu_s, double wanted_s, u64 calls, const u64 of[PROF_CAT_ALL])
{
	static const struct { u8 category; const char *name; } kinds[] = {
		{ PROF_CAT_FILE, "io_bound" }, { PROF_CAT_NETWORK, "network_bound" },
		{ PROF_CAT_MEMORY, "memory_bound" },
	};
	u64 all = 0, named = 0;
	size_t i;

	if (cpu_s + wanted_s >= prof_seconds() / 2 && calls < 5000 * cpu_s)
		return "cpu_bound";
	for (i = 0; i < PROF_CAT_ALL; i++)
		all += of[i];
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (of[kinds[i].category] * 2 > all)
			return kinds[i].name;
		named += of[kinds[i].category];
	}
	return named * 2 > all ? "mixed" : "unknown";
}

/*
 * A command that hardly runs makes most of its calls at its start, so it is judged by its waits other
 * than those for a CPU, by the category of the call that waits.
 */
static const char *prof_bpf_behaviour(void)
{
	const struct prof_thread *t = &prof.total.t;
	u64 waits[PROF_CAT_ALL] = { 0 };
	double cpu_s = t->cpu_ns / 1e9;
	bool few = prof.child && cpu_s < prof_seconds() / 4;
	u32 i;

	for (i = 0; few && i < prof.nr_places; i++) {
		const struct prof_key *key = &prof.places[i].key;

		if (key->state != PROF_PREEMPTED && key->state != PROF_RUNQUEUE)
			waits[key->state == PROF_DISK ? PROF_CAT_FILE :
			      key->nr < PROF_SYSCALLS ? prof_category_of(key->nr) :
			      PROF_CAT_OTHER] += prof.places[i].off.ns;
	}
	return prof_behaviour(cpu_s, (t->ns[PROF_PREEMPTED] + t->ns[PROF_RUNQUEUE]) / 1e9, prof.calls,
			      few ? waits : prof.category);
}

/* ==== profile 8: output ============================================================== */

/*
 * A report is groups of named values and lists of rows. The functions prof_report_...() describe it
 * once; the functions prof_put_...() print it as JSON or as text. JSON has all of it. In the text a
 * group has a heading and a line per value, a list is a table, and a row with a name is a line. JSON's
 * keys are the labels; a value whose key ends in _ns is shown in ms.
 */
struct prof_report {
	struct out *o;
	struct json j;			/* used unless text */
	bool text;
	bool table;			/* the open list has the head of its table; prof_put_row() */
	const char *heading;		/* of the open group; NULL once printed: empty groups are not shown */
};

enum prof_kind { PROF_NUMBER = 1, PROF_REAL, PROF_TEXT, PROF_STACK };

struct prof_value {
	const char *key;	/* NULL: the last one was before */
	u8 kind;		/* enum prof_kind */
	u8 more;		/* REAL: digits after the point; STACK: the frames' kind, 'k' or 'u' */
	union {
		u64 n;
		double real;
		const char *text;	/* NULL: there is none; STACK: names as struct prof_names has them */
	};
};
#define PROF_N(key, v)			{ key, PROF_NUMBER, 0, { .n = (v) } }
#define PROF_R(key, v, digits)		{ key, PROF_REAL, digits, { .real = (v) } }
#define PROF_T(key, v)			{ key, PROF_TEXT, 0, { .text = (v) } }
#define PROF_S(key, names, kind)	{ key, PROF_STACK, kind, { .text = (names) } }
#define PROF_VALUES(...)		((const struct prof_value[]){ __VA_ARGS__, { 0 } })

static const char *prof_label(const char *key)
{
	static char label[64];
	char *c;

	snprintf(label, sizeof(label), "%s", key);
	if (ends_with(label, "_ns"))
		label[strlen(label) - 2] = 'm';
	for (c = label; (c = strchr(c, '_')); c++)
		*c = ' ';
	return label;
}

static const char *prof_text(const struct prof_value *v)
{
	static char text[32];
	bool time = v->kind == PROF_NUMBER && ends_with(v->key, "_ns");

	if (v->kind == PROF_TEXT)
		return v->text ? : "";
	if (v->kind == PROF_REAL || time)
		snprintf(text, sizeof(text), "%.*f", time ? 3 : v->more, time ? v->n / 1e6 : v->real);
	else
		snprintf(text, sizeof(text), "%" PRIu64, v->n);
	return text;
}

static void prof_put_open(struct prof_report *r, const char *key, char bracket)
{
	if (!r->text)
		json_open(&r->j, key, bracket);
	r->heading = r->text ? key : NULL;
	r->table = false;
}

static void prof_put_close(struct prof_report *r, char bracket)
{
	if (!r->text)
		json_close(&r->j, bracket);
	r->heading = NULL;
}

static void prof_put_heading(struct prof_report *r)
{
	if (r->heading)
		out_f(r->o, "\n%s\n", prof_label(r->heading));
	r->heading = NULL;
}

static void prof_put_json(struct json *j, const struct prof_value *v)
{
	const char *name = v->text;

	if (v->kind == PROF_NUMBER)
		json_u64(j, v->key, v->n);
	else if (v->kind == PROF_REAL)
		json_f64(j, v->key, v->real, v->more);
	else if (v->kind == PROF_TEXT && name)
		json_str(j, v->key, name);
	if (v->kind != PROF_STACK)
		return;
	json_open(j, v->key, '[');
	for (; *name; name += strlen(name) + 1)
		if (*name == v->more)
			json_str(j, NULL, name + 1);
	json_close(j, ']');
}

/* Values of the open group; the text leaves numbers of 0 out. */
static void prof_put_values(struct prof_report *r, const struct prof_value *v)
{
	for (; v->key; v++) {
		if (!r->text) {
			prof_put_json(&r->j, v);
		} else if (v->kind != PROF_NUMBER || v->n) {
			prof_put_heading(r);
			out_f(r->o, "  %-28s %16s\n", prof_label(v->key), prof_text(v));
		}
	}
}

/* A line of the text with all columns of a row: their labels, or their values, numbers to the right. */
static void prof_put_line(struct prof_report *r, const struct prof_value *v, bool head)
{
	out_put(r->o, " ", 1);
	for (; v->key && v->kind != PROF_STACK; v++)
		out_f(r->o, " %*s", v->kind == PROF_TEXT ? -16 : 12, head ? prof_label(v->key) : prof_text(v));
	out_put(r->o, "\n", 1);
}

/* A group of values of its own: an element of the open list (key NULL), or a member of the open group. */
static void prof_put_row(struct prof_report *r, const char *key, const struct prof_value *v)
{
	const char *name;

	if (!r->text) {
		json_open(&r->j, key, '{');
		prof_put_values(r, v);
		json_close(&r->j, '}');
		return;
	}
	prof_put_heading(r);
	if (key)
		out_f(r->o, "  %-20s", prof_label(key));
	else if (!r->table)
		prof_put_line(r, v, true);
	r->table = !key;
	if (r->table)
		prof_put_line(r, v, false);
	for (; v->key; v++) {
		for (name = v->text; v->kind == PROF_STACK && *name; name += strlen(name) + 1)
			if (*name == v->more)
				out_f(r->o, "    %s%s\n", name + 1, *name == 'k' ? " [k]" : "");
		if (key)
			out_f(r->o, " %12s %s%s", prof_text(v), prof_label(v->key), v[1].key ? "," : "");
	}
	if (key)
		out_put(r->o, "\n", 1);
}

#define PROF_PUT(r, ...)	prof_put_values(r, PROF_VALUES(__VA_ARGS__))
#define PROF_ROW(r, key, ...)	prof_put_row(r, key, PROF_VALUES(__VA_ARGS__))

static void prof_report_time(struct prof_report *r, const char *name, u64 ns, u64 n)
{
	if (n)
		PROF_ROW(r, name, PROF_N("time_ns", ns), PROF_N("count", n));
}

/* Average, longest and shortest time are absent where no thread was off the CPU. */
static void prof_report_times(struct prof_report *r, const char *count, const struct prof_thread *t)
{
	u64 ns = prof_off_ns(t);
	u32 i;

	PROF_PUT(r, PROF_N("total_time_ns", ns), PROF_N(count, t->events));
	if (t->events)
		PROF_PUT(r, PROF_N("avg_time_ns", ns / t->events),
			 PROF_N("max_time_ns", t->max_ns), PROF_N("min_time_ns", t->min_ns));
	prof_put_open(r, "by_state", '{');
	for (i = 0; i < PROF_STATE_NR; i++)
		prof_report_time(r, prof_state_names[i], t->ns[i], t->n[i]);
	prof_put_close(r, '}');
}

/* Counters of a thread, or of all. */
static void prof_report_counters(struct prof_report *r, const struct prof_row *row)
{
	const struct prof_thread *t = &row->t;
	const struct prof_io_sum *io = &row->io;

	if (args.profile.only != PROF_SYSCALL)
		PROF_ROW(r, "futex", PROF_N("waits", t->futex_n), PROF_N("time_ns", t->futex_ns));
	if (io->n)
		PROF_ROW(r, "block_io", PROF_N("requests", io->n), PROF_N("bytes", io->bytes),
			 PROF_N("total_time_ns", io->ns), PROF_N("avg_time_ns", io->ns / io->n),
			 PROF_N("max_time_ns", io->max_ns));
	PROF_ROW(r, "page_faults", PROF_N("minor", t->minor_faults), PROF_N("major", t->major_faults));
	PROF_ROW(r, "context_switches", PROF_N("voluntary", t->voluntary), PROF_N("involuntary", t->involuntary));
	PROF_PUT(r, PROF_N("cpu_time_ns", t->cpu_ns));
}

#define PROF_WHO(t)	PROF_N("pid", (t)->tgid), PROF_N("tid", (t)->tid), PROF_T("comm", comm_text((t)->comm))

static void prof_report_threads(struct prof_report *r)
{
	u64 all = prof_off_ns(&prof.total.t), ns;
	const struct prof_thread *t;
	char key[32];
	u32 i;

	prof_put_open(r, "top_blocking_threads", '[');
	for (i = 0; i < MIN(prof.nr_rows, PROF_TOP) && prof.rows[i].t.events; i++) {
		t = &prof.rows[i].t;
		ns = prof_off_ns(t);
		PROF_ROW(r, NULL, PROF_WHO(t), PROF_R("time_ms", ns / 1e6, 3),
			 PROF_R("percentage", all ? 100.0 * ns / all : 0, 2), PROF_N("count", t->events),
			 PROF_N("avg_ns", ns / t->events), PROF_N("max_ns", t->max_ns));
	}
	prof_put_close(r, ']');
	if (r->text)
		return;
	prof_put_open(r, "thread_stats", '{');
	for (i = 0; i < prof.nr_rows; i++) {
		t = &prof.rows[i].t;
		snprintf(key, sizeof(key), "%u:%u", t->tgid, t->tid);
		prof_put_open(r, key, '{');
		PROF_PUT(r, PROF_WHO(t));
		prof_report_times(r, "count", t);
		prof_report_counters(r, &prof.rows[i]);
		prof_put_close(r, '}');
	}
	prof_put_close(r, '}');
}

static int prof_row_cmp_wait(const void *a, const void *b)
{
	const struct prof_row *x = a, *y = b;

	return CMP(y->t.wait_max_ns, x->t.wait_max_ns) ? : prof_row_cmp_ids(a, b);
}

/* The last slot of a histogram has no bound: the longest wait is one. */
static u64 prof_wait_ns(const struct prof_thread *t, double us)
{
	return us < hist_slot_us(HIST_SLOTS - 1, HIST_SHIFT) ? MIN(us * NSEC_PER_USEC, t->wait_max_ns) : t->wait_max_ns;
}

/* From wakeup to run, a thread a row, the longest wait first; sorts the rows anew. */
static void prof_report_waits(struct prof_report *r)
{
	u32 i, k;

	prof_sort(prof.rows, prof.nr_rows, sizeof(*prof.rows), prof_row_cmp_wait);
	prof_put_open(r, "wakeup_to_run", '[');
	for (i = 0; i < (r->text ? MIN(prof.nr_rows, 2 * PROF_TOP) : prof.nr_rows); i++) {
		const struct prof_thread *t = &prof.rows[i].t;
		struct histogram h;

		for (k = 0; k < HIST_SLOTS; k++)
			h.slot[k] = t->waits[k];
		hist_sum(&h, HIST_SHIFT);
		if (!h.n)
			break;
		PROF_ROW(r, NULL, PROF_WHO(t), PROF_N("count", h.n), PROF_N("p50_ns", prof_wait_ns(t, h.p50)),
			 PROF_N("p99_ns", prof_wait_ns(t, h.p99)), PROF_N("max_ns", t->wait_max_ns));
	}
	prof_put_close(r, ']');
}

/* The text does not tell apart threads of a name. */
static void prof_report_stacks(struct prof_report *r)
{
	u32 i, call;

	prof_put_open(r, "stacks", '[');
	for (i = 0; i < prof_shown(); i++) {
		const struct prof_place *p = &prof.places[i];
		const struct prof_thread *t = prof_thread_of(p->key.id), none = { .comm = "?" };

		call = prof_call_of(p);
		prof_put_row(r, NULL, PROF_VALUES(PROF_WHO(t ? : &none), PROF_T("state", prof_state_names[p->key.state]),
			     PROF_T("syscall", call < PROF_CALLS ? prof_call_name(call) : NULL),
			     PROF_N("count", p->off.n), PROF_N("time_ns", p->off.ns),
			     PROF_N("runqueue_ns", p->off.wait_ns), PROF_N("max_ns", p->off.max_ns),
			     PROF_S("kernel_frames", p->names, 'k'), PROF_S("frames", p->names, 'u')
			     ) + (r->text ? 2 : t ? 0 : 3));
	}
	prof_put_close(r, ']');
}

/* Times off the CPU by system call. */
static void prof_report_by_call(struct prof_report *r)
{
	u64 ns[PROF_CALLS + 1] = { 0 }, n[PROF_CALLS + 1] = { 0 };
	u32 i, at;

	for (i = 0; i < prof.nr_places; i++) {
		at = prof_call_of(&prof.places[i]);
		ns[at] += prof.places[i].off.ns + prof.places[i].off.wait_ns;
		n[at] += prof.places[i].off.n;
	}
	prof_put_open(r, "by_syscall", '{');
	for (i = 0; i <= PROF_CALLS && !r->text; i++)
		prof_report_time(r, prof_call_name(i), ns[i], n[i]);
	prof_put_close(r, '}');
}

/* Calls, or samples of calls: their sum, sums by category, and the most frequent ones. */
static void prof_report_top_calls(struct prof_report *r, const char *total, const char *count)
{
	u32 i;

	PROF_PUT(r, PROF_N(total, prof.calls));
	prof_put_open(r, "by_category", '{');
	for (i = 0; i < PROF_CAT_NR; i++)
		PROF_PUT(r, PROF_N(prof_category_names[i], prof_category_calls(i)));
	prof_put_close(r, '}');
	prof_put_open(r, "top_syscalls", '[');
	for (i = 0; i < PROF_TOP && prof_count_of(prof.order[i]); i++)
		PROF_ROW(r, NULL, PROF_T("name", prof_call_name(prof.order[i])),
			 PROF_N(count, prof_count_of(prof.order[i])));
	prof_put_close(r, ']');
}

static void prof_report_calls(struct prof_report *r)
{
	u32 i;

	prof_put_open(r, "syscalls", '{');
	PROF_PUT(r, PROF_N("ia32", prof.calls32));
	prof_report_top_calls(r, "total", "count");
	prof_put_open(r, "counts", '{');
	for (i = 0; i < PROF_CALLS && prof_count_of(prof.order[i]) && !r->text; i++)
		json_u64(&r->j, prof_call_name(prof.order[i]), prof_count_of(prof.order[i]));
	prof_put_close(r, '}');
	prof_put_open(r, "analysis", '{');
	PROF_PUT(r, PROF_R("calls_per_s", prof.calls / prof_seconds(), 1), PROF_T("behaviour", prof_bpf_behaviour()));
	prof_put_open(r, "calls_per_s_by_category", '{');
	for (i = 0; i < PROF_CAT_NR && !r->text; i++)
		json_f64(&r->j, prof_category_names[i], prof_category_calls(i) / prof_seconds(), 1);
	prof_put_close(r, '}');
	prof_put_close(r, '}');
	prof_put_close(r, '}');
}

static void prof_report_lost(struct prof_report *r)
{
	const struct prof_lost *lost = &st.skel->bss->prof_lost;
	const struct { const char *key; u64 n; const char *what; } rows[] = {
		{ "threads", lost->threads, "threads could not be followed" },
		{ "records", prof.records_lost, "threads' figures were lost" },
		{ "places", lost->offs, "times off the CPU have no stack: too many places" },
		{ "stacks", lost->stacks, "stacks found no room" },
		{ "block_requests", lost->ios, "block requests found no room" },
		{ "mappings", prof.rings_lost, "times mappings were missed" },
		{ "symbols", prof.lost_symbols, "files have more symbols than are read" },
		{ "names", prof.lost_names, "stacks have no names: reading was stopped, took too long or met a broken file" },
	};
	size_t i;

	prof_put_open(r, "lost", '{');
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		PROF_PUT(r, PROF_N(r->text ? rows[i].what : rows[i].key, rows[i].n));
	prof_put_close(r, '}');
}

static void prof_bpf_report(struct prof_report *r)
{
	u64 cache[2] = { 0 };

	prof_put_open(r, "ebpf", '{');
	if (args.profile.only != PROF_SYSCALL) {
		prof_put_open(r, "offcpu", '{');
		prof_report_times(r, "total_events", &prof.total.t);
		prof_report_by_call(r);
		prof_report_threads(r);
		prof_report_stacks(r);
		prof_report_waits(r);
		prof_put_close(r, '}');
	}
	if (args.profile.only != PROF_OFFCPU)
		prof_report_calls(r);
	r->heading = r->text ? "counters" : NULL;
	prof_report_counters(r, &prof.total);
	if (prof_cache_read(cache))
		PROF_ROW(r, "cache", PROF_N("references", cache[0]), PROF_N("misses", cache[1]));
	prof_report_lost(r);
	prof_put_close(r, '}');
}

static const char *prof_comm_of(const struct prof_place *p)
{
	const struct prof_thread *t = prof_thread_of(p->key.id);

	return t ? comm_text(t->comm) : "?";
}

/* By thread and frames: what is one line of folded stacks is equal. */
static int prof_place_cmp_names(const void *a, const void *b)
{
	const struct prof_place *p = a, *q = b;
	const char *x = p->names, *y = q->names;
	char comm[17];

	snprintf(comm, sizeof(comm), "%s", prof_comm_of(p));
	for (; *x && !strcmp(x, y); x += strlen(x) + 1, y += strlen(y) + 1)
		;
	return strcmp(comm, prof_comm_of(q)) ? : strcmp(x, y);
}

/* A semicolon in a name would part the name. */
static void prof_folded_name(struct out *o, const char *name)
{
	char text[PROF_NAME], *c;

	snprintf(text, sizeof(text), "%s", name);
	for (c = text; (c = strchr(c, ';'));)
		*c = ':';
	out_f(o, "%s", text);
}

/* Prints a line per stack with its time in us, the outermost frame first: what flame graphs are drawn from. */
static void prof_folded(struct out *o)
{
	const char *names[3 * PROF_FRAMES], *at;
	const struct prof_place *p, *end = prof.places + prof.nr_places;
	u64 sum = 0;
	u32 n;

	prof_sort(prof.places, prof.nr_places, sizeof(*prof.places), prof_place_cmp_names);
	for (p = prof.places; p < end; p++) {
		sum += p->off.ns + p->off.wait_ns;
		if (p + 1 < end && !prof_place_cmp_names(p, p + 1))
			continue;
		prof_folded_name(o, prof_comm_of(p));
		for (n = 0, at = p->names; *at && n < ARRAY_SIZE(names); at += strlen(at) + 1)
			names[n++] = at;
		while (n-- > 0) {
			out_put(o, ";", 1);
			prof_folded_name(o, names[n] + 1);
			if (names[n][0] == 'k')
				out_put(o, "_[k]", 4);
		}
		out_f(o, " %llu\n", sum / NSEC_PER_USEC);
		sum = 0;
	}
	if (prof.lost_symbols || prof.lost_names)
		note("profile: %u files have more symbols than are read, %u stacks have no names",
		     prof.lost_symbols, prof.lost_names);
}

/* ==== profile 9: the /proc source, for whoever may not load BPF programs ============= */

#define PROF_SAMPLED	4096	/* threads that can be followed */

/* What /proc counts of a thread, in the order of prof_proc_files[]. */
enum prof_proc {
	PROF_PROC_CPU, PROF_PROC_WAIT, PROF_PROC_MINOR, PROF_PROC_MAJOR, PROF_PROC_VOLUNTARY,
	PROF_PROC_INVOLUNTARY, PROF_PROC_READS, PROF_PROC_WRITES, PROF_PROC_READ_BYTES,
	PROF_PROC_WRITE_BYTES, PROF_PROC_NR
};

/* Where the numbers stand: in that file of a thread, behind a text and so many words more. */
static const struct { const char *name, *file, *text; u32 words; } prof_proc_files[PROF_PROC_NR] = {
	{ "cpu_time_ns", "schedstat", "", 0 },
	{ "runqueue_ns", "schedstat", "", 1 },
	{ "minor_faults", "stat", ")", 7 },
	{ "major_faults", "stat", ")", 9 },
	{ "voluntary_switches", "status", "\nvoluntary_ctxt_switches:", 0 },
	{ "involuntary_switches", "status", "nonvoluntary_ctxt_switches:", 0 },
	{ "read_calls", "io", "syscr:", 0 },
	{ "write_calls", "io", "syscw:", 0 },
	{ "read_bytes", "io", "\nread_bytes:", 0 },
	{ "write_bytes", "io", "\nwrite_bytes:", 0 },
};

struct prof_sampled {
	s32 pid, tid;
	u32 have;			/* bits by enum prof_proc: the number could be read */
	u64 first_ns, last_ns;		/* first and last look, CLOCK_MONOTONIC */
	u64 first[PROF_PROC_NR], last[PROF_PROC_NR];	/* at these */
	bool before;			/* `first` was counted before the recording */
	char comm[64];			/* not trusted */
};

static struct prof_sampled *prof_sampled;	/* PROF_SAMPLED; cmd_profile() */
static u32 prof_nr_sampled, prof_looks, prof_unsampled;
static u32 prof_seen_running, prof_seen_outside;	/* samples that saw a thread in no system call */

/*
 * The file says "running", or the number of the call (-1: none), six arguments, stack and code
 * address. Samples are counted where BPF would count calls.
 */
static void prof_proc_call(const char *text)
{
	u64 sp;
	s64 nr;

	if (!strncmp(text, "running", 7)) {
		prof_seen_running++;
	} else if (sscanf(text, "%" SCNd64 " %*x %*x %*x %*x %*x %*x %" SCNx64, &nr, &sp) < 2) {
		prof_seen_outside++;
	} else if (nr < 0 || nr >= PROF_SYSCALLS) {
		prof.counts.odd++;
	} else {
		/* a stack below 4 GB is that of a 32-bit program, whose calls have other numbers */
		prof.counts.n[sp <= UINT32_MAX][nr]++;
	}
}

static void prof_proc_look(struct prof_sampled *s, u64 now)
{
	const char *at, *from = "", *file = "";
	char text[4096];
	u32 i, words;

	s->last_ns = now;
	if (read_file(text, sizeof(text), "/proc/%d/task/%d/comm", s->pid, s->tid))
		snprintf(s->comm, sizeof(s->comm), "%.63s", text);
	for (i = 0; i < PROF_PROC_NR; i++) {
		if (strcmp(file, prof_proc_files[i].file)) {
			file = prof_proc_files[i].file;
			read_file(text, sizeof(text), "/proc/%d/task/%d/%s", s->pid, s->tid, file);
			/* the name before it may have brackets of its own */
			from = strcmp(file, "stat") ? text : strrchr(text, ')') ? : "";
		}
		at = *from ? strstr(from, prof_proc_files[i].text) : NULL;
		if (!at)
			continue;
		at += strlen(prof_proc_files[i].text);
		for (words = prof_proc_files[i].words; words; words--) {
			at += strspn(at, " ");
			at += strcspn(at, " ");
		}
		s->last[i] = strtoull(at, NULL, 10);
		s->have |= 1u << i;
	}
	if (read_file(text, sizeof(text), "/proc/%d/task/%d/syscall", s->pid, s->tid))
		prof_proc_call(text);
}

static void prof_proc_thread(s32 pid, s32 tid, u64 now)
{
	struct prof_sampled *s = prof_sampled, *end = s + prof_nr_sampled;

	for (; s < end && (s->tid != tid || s->pid != pid); s++)
		;
	if (s == prof_sampled + PROF_SAMPLED) {
		prof_unsampled++;
		return;
	}
	if (s == end)
		*s = (struct prof_sampled){ .pid = pid, .tid = tid, .first_ns = now };
	prof_proc_look(s, now);
	if (s < end)
		return;
	prof_nr_sampled++;
	memcpy(s->first, s->last, sizeof(s->first));
	/* threads that the first look finds, and the command, ran before the recording */
	s->before = !prof_looks;
}

/* Looks at a process's threads, and at their children. */
static void prof_proc_tree(s32 pid, u64 now, u32 depth)
{
	char text[16 * 1024], *at, *end;
	s32 child, tid;
	struct dir d;

	if (depth == 64)
		return;
	for (dir_open(&d, "/proc/%d/task", pid); (tid = dir_number(&d)) >= 0; ) {
		prof_proc_thread(pid, tid, now);
		read_file(text, sizeof(text), "/proc/%d/task/%d/children", pid, tid);
		for (at = text; (child = strtol(at, &end, 10)) > 0 && end > at; at = end)
			prof_proc_tree(child, now, depth + 1);
	}
}

static void prof_proc_turn(u64 now)
{
	prof_proc_tree(prof.root, now, 0);
	prof_looks++;
}

/* What was counted since the recording began. */
static u64 prof_proc_since(const struct prof_sampled *s, u32 what)
{
	return s->last[what] - (s->before ? MIN(s->first[what], s->last[what]) : 0);
}

static void prof_proc_report_thread(struct prof_report *r, const struct prof_sampled *s)
{
	u64 seen = s->last_ns - s->first_ns, cpu = s->last[PROF_PROC_CPU] - s->first[PROF_PROC_CPU];
	struct prof_value v[4 + PROF_PROC_NR + 1] = { PROF_T("thread", NULL), PROF_T("comm", s->comm),
						      PROF_N("seen_ns", seen) };
	struct prof_value *to = v + 3;
	char key[32];
	u32 k;

	snprintf(key, sizeof(key), "%d:%d", s->pid, s->tid);
	v[0].text = key;
	if (s->have >> PROF_PROC_CPU & 1)
		*to++ = (struct prof_value)PROF_N("off_cpu_ns", seen - MIN(cpu, seen));
	/* a line of the text has room for the times only */
	for (k = 0; k < (r->text ? PROF_PROC_MINOR : PROF_PROC_NR); k++)
		if (s->have >> k & 1)
			*to++ = (struct prof_value)PROF_N(prof_proc_files[k].name, prof_proc_since(s, k));
	prof_put_row(r, r->text ? NULL : key, v + !r->text);
}

static void prof_proc_report(struct prof_report *r)
{
	static const char *const lacks[] = {
		"stacks", "times by state", "counts of system calls", "futex waits", "block I/O latency",
		"threads that live shorter than 0.1 s",
	};
	u64 sum[PROF_PROC_NR] = { 0 };
	u32 have = 0, i, k;

	for (i = 0; i < prof_nr_sampled; i++) {
		have |= prof_sampled[i].have;
		for (k = 0; k < PROF_PROC_NR; k++)
			sum[k] += prof_proc_since(&prof_sampled[i], k);
	}
	PROF_PUT(r, PROF_T("missing_capability", prof.lacks));
	prof_put_open(r, "lacks", '[');
	prof_put_heading(r);
	for (i = 0; i < ARRAY_SIZE(lacks); i++) {
		if (r->text)
			out_f(r->o, "  %s\n", lacks[i]);
		else
			json_str(&r->j, NULL, lacks[i]);
	}
	prof_put_close(r, ']');
	prof_put_open(r, "proc", '{');
	PROF_PUT(r, PROF_N("looks", prof_looks));
	for (i = 0; i < PROF_PROC_NR; i++)
		if (have >> i & 1)
			PROF_PUT(r, PROF_N(prof_proc_files[i].name, sum[i]));
	if (prof.calls + prof_seen_running + prof_seen_outside) {
		prof_put_open(r, "sampled_syscalls", '{');
		PROF_PUT(r, PROF_N("samples_running", prof_seen_running),
			 PROF_N("samples_in_no_syscall", prof_seen_outside));
		prof_report_top_calls(r, "samples", "samples");
		prof_put_open(r, "analysis", '{');
		/* at least these calls were made: a thread leaves its CPU by itself only in a call */
		PROF_PUT(r, PROF_T("behaviour", prof_behaviour(sum[PROF_PROC_CPU] / 1e9, sum[PROF_PROC_WAIT] / 1e9,
			 sum[PROF_PROC_READS] + sum[PROF_PROC_WRITES] + sum[PROF_PROC_VOLUNTARY],
			 prof.category)));
		prof_put_close(r, '}');
		prof_put_close(r, '}');
	}
	prof_put_open(r, "threads", '{');
	for (i = 0; i < (r->text ? MIN(prof_nr_sampled, 2 * PROF_TOP) : prof_nr_sampled); i++)
		prof_proc_report_thread(r, &prof_sampled[i]);
	prof_put_close(r, '}');
	if (r->text && i < prof_nr_sampled)
		out_f(r->o, "  and %u more\n", prof_nr_sampled - i);
	if (r->text && prof_unsampled)
		out_f(r->o, "  %u looks at more threads than it can follow\n", prof_unsampled);
	prof_put_close(r, '}');
}

/* ==== profile 10: the command ======================================================== */

static void prof_bpf_start(void)
{
	struct rlimit files;
	int err;

	/* the command was forked before, and keeps its own limit */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	prof_load();
	prof_rings_open();
	err = gamer_bpf__attach(st.skel);
	if (err)
		die(EX_SOFTWARE, "profile: cannot attach the BPF programs: %s", strerror(-err));
	prof_mark_all();
}

static void prof_report_print(struct out *o)
{
	static const char *const scopes[] = {
		[PROF_TREE] = "process %d and what it started", [PROF_THREAD] = "thread %d",
		[PROF_SYSTEM] = "all processes",
	};
	static struct prof_report r;

	r.o = o;
	r.text = !args.profile.json;
	if (r.text) {
		out_f(o, scopes[prof.scope], prof.root);
		out_f(o, ", for %.3f s", prof_seconds());
		if (!prof.lacks)
			out_f(o, ": %u threads, %.3f s on CPUs\n", prof.nr_rows, prof.total.t.cpu_ns / 1e9);
		else
			out_f(o, ", from /proc alone\n");
	} else {
		json_begin(&r.j, o, "profile");
		json_f(&r.j, prof.scope == PROF_THREAD ? "source=%s tid?=%u seconds=%.3f" :
		       "source=%s pid?=%u seconds=%.3f", prof.lacks ? "proc" : "ebpf", prof.root, prof_seconds());
		if (prof.status >= 0)
			json_u64(&r.j, "exit_status", prof_exit_code());
	}
	if (prof.lacks)
		prof_proc_report(&r);
	else
		prof_bpf_report(&r);
	if (!r.text)
		json_end(&r.j);
}

static int prof_report(void)
{
	sigset_t none;
	struct file f;
	struct out *o;

	/* nothing is left to be saved: a signal may end gamer, should nobody read the report */
	sigemptyset(&none);
	if (!prof.child || prof.status >= 0)
		sigprocmask(SIG_SETMASK, &none, NULL);
	o = out_open(&f, args.profile.output);
	if (o && args.profile.folded)
		prof_folded(o);
	else if (o)
		prof_report_print(o);
	return out_close(o, &f, args.profile.output, "profile");
}

/* The /proc of another PID namespace has other processes under the numbers that gamer knows. */
static void prof_check_proc(void)
{
	char text[16];
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

	text[MAX(n, 0)] = 0;
	if (n > 0 && atoi(text) != getpid())
		die(EX_UNAVAILABLE, "profile: /proc is that of another PID namespace: mount this one's "
		    "(unshare --pid --fork --mount-proc)");
}

static void prof_check_options(void)
{
	const char *needs;

	if (!!args.profile.pid + !!args.profile.tid + args.profile.all + !!st.argv != 1)
		die(EX_USAGE, "profile: one of -p PID, -t TID, -a and -- COMMAND is needed");
	if (args.profile.json && args.profile.folded)
		die(EX_USAGE, "profile: --json and --folded exclude each other");
	if (args.profile.folded && args.profile.only == PROF_SYSCALL)
		die(EX_USAGE, "profile: --folded shows times off the CPU, --only syscalls leaves them out");
	if (args.profile.max_us && args.profile.max_us < args.profile.min_us)
		die(EX_USAGE, "profile: --max-us is less than --min-us");
	out_check(args.profile.output, "profile");
	prof.lacks = missing_capability();
	needs = args.profile.folded ? "folded" : args.profile.only ? "only" :
		args.profile.state ? "state" : args.profile.min_us ? "min-us" :
		args.profile.max_us ? "max-us" : args.profile.user_stacks ? "user-stacks" :
		args.profile.tid ? "tid" : args.profile.all ? "all" : NULL;
	if (prof.lacks && needs)
		die(EX_NOPERM, "profile: not permitted: --%s needs %s", needs, prof.lacks);
	if (prof.lacks)
		note("profile: %s missing: only what /proc tells", prof.lacks);
	else
		limits_check(false);
	prof_check_proc();
}

/* Waits for the command after the report; its exit status becomes gamer's. */
static int prof_wait_command(void)
{
	struct pollfd fd = { .fd = prof.signal_fd, .events = POLLIN };

	while (prof.status < 0) {
		/* the command that goes on after gamer was asked to stop is left alone */
		if (poll(&fd, 1, prof.signal ? 2000 : -1) == 0)
			return 128 + prof.signal;
		prof_signals_read();
	}
	return prof_exit_code();
}

static int cmd_profile(void)
{
	u8 byte;
	int rc;

	st.verbose = args.profile.verbose;
	prof.status = prof.signal_fd = prof.pidfd = -1;
	prof_check_options();
	prof.root = args.profile.pid + args.profile.tid;
	prof.scope = args.profile.tid ? PROF_THREAD : args.profile.all ? PROF_SYSTEM : PROF_TREE;
	prof.signal_fd = signals_open((const int[]){ SIGINT, SIGTERM, SIGCHLD, 0 });
	if (st.argv)
		prof_spawn(st.argv);
	else if (prof.scope == PROF_TREE)
		prof.pidfd = syscall(SYS_pidfd_open, prof.root, 0);
	if (!prof.lacks) {
		prof_bpf_start();
	} else {
		prof_sampled = prof_need(calloc(PROF_SAMPLED, sizeof(*prof_sampled)));
		if (kill(prof.root, 0) && errno == ESRCH)
			die(EX_NOINPUT, "profile: there is no process %d", prof.root);
		prof_proc_turn(now_ns());
	}
	prof.start_ns = now_ns();
	if (prof.child && send(prof.go_fd, "", 1, MSG_NOSIGNAL) != 1)
		die(EX_OSERR, "profile: the command went away");
	prof.turn = prof.lacks ? prof_proc_turn : prof_turn;
	prof_loop();
	if (!prof.lacks) {
		prof_collect();
		prof_rows_make();
		prof_symbolize();
	}
	prof_calls_make();
	/* the command could not be executed, and has said why */
	if (prof.child && recv(prof.go_fd, &byte, 1, MSG_DONTWAIT) == 1)
		return prof_wait_command();
	rc = prof_report();
	return rc ? rc : prof.child ? prof_wait_command() : EX_OK;
}

/* ======== 21. commands ============================================================== */

/* Where memory runs out the kernel shall not kill gamer: that frees 4 MB, and costs a game much. */
static void run_spare(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "-1000", 5) < 0)
		note("the kernel may kill gamer where memory runs out, for CAP_SYS_RESOURCE is missing");
	fd_close(fd);
}

/* Lets one gamer run at a time. The kernel drops the lock with the process, however that ends. */
static void run_lock(void)
{
	const char *path = runtime_path("lock");
	int fd;

	if (mkdir(runtime_dir(), 0755) && errno != EEXIST)
		die(errno == EACCES || errno == EPERM ? EX_NOPERM : EX_CANTCREAT,
		    "cannot make %s: %s", runtime_dir(), strerror(errno));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		die(errno == EACCES ? EX_NOPERM : EX_CANTCREAT, "cannot open %s: %s", path,
		    strerror(errno));
	fchmod(fd, 0600);	/* whoever may open it may lock it */
	if (flock(fd, LOCK_EX | LOCK_NB))
		die(EX_TEMPFAIL, "another gamer is running (%s is locked)", path);
	st.lock_fd = fd;
}

/* Fills st with what this kernel offers; returns NULL, or why the kernel cannot run gamer. */
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
	return !why && !st.observing && access(SCX_DIR, F_OK) ? "no " SCX_DIR : why;
}

/*
 * Who decides what runs. To advise, gamer observes. Who starts gamer beside another scheduler without a word
 * on it has more likely forgotten that one than wants both.
 */
static void backend_choose(enum backend backend)
{
	const char *why = NULL;
	char name[128];

	st.observing = args.run.observe;
	if (st.observing && backend != BACKEND_UNSAID)
		die(EX_USAGE, "--observe and --backend exclude each other");
	if (st.observing || backend == BACKEND_SCX)
		return;
	if (backend == BACKEND_FAIR)
		why = "asked for";
	else
		why = kernel_check() ? : scx_isolated();
	if (scx_attached(name, sizeof(name)) && backend != BACKEND_UNSAID)
		text_f(st.fair_why, sizeof(st.fair_why), "scheduler '%s' is attached", name);
	else if (why)
		text_f(st.fair_why, sizeof(st.fair_why), "%s", why);
	st.fair = st.fair_why[0];
	st.observing = st.fair;
	st.fair_realtime = st.fair && args.run.realtime;
	if (st.fair_realtime && read_num(0, "/proc/sys/kernel/sched_rt_runtime_us") < 0) {
		note("--realtime: no thread gets SCHED_FIFO, for the kernel would not stop one that runs away "
		     "(kernel.sched_rt_runtime_us is -1)");
		st.fair_realtime = false;
	}
}

static void run_check_kernel(void)
{
	const char *why, *caps;
	struct utsname un;
	char name[128];

	backend_choose(args.run.backend);
	why = kernel_check();
	uname(&un);
	if (why)
		die(EX_UNAVAILABLE, "kernel %s cannot run gamer: %s", un.release, why);
	caps = missing_capability();
	if (caps)
		die(EX_NOPERM, "not permitted without %s (run as root)", caps);
	caps_tell();
	run_lock();
	fair_probe();
	fair_restore();
	if (!st.observing && scx_attached(name, sizeof(name)))
		die(EX_TEMPFAIL, "scheduler '%s' is attached (--backend fair advises it)", name);
	if (access("/proc/self/stat", F_OK))
		note("no /proc is mounted, so gamer cannot find a game");
	else if (game.blind)
		note("gamer runs in a PID namespace (a container), from where no game can be seen");
}

/*
 * Writes to last_exit why gamer ends, and why the kernel ended the scheduler last. Where the file
 * cannot be written, the message that was printed must do.
 */
static void last_exit(int code, const char *what)
{
	char text[2048];
	size_t n = text_f(text, sizeof(text), "exit=%d kind=%d code=0x%" PRIx64 " what=%s reason=%s msg=%s\n", code,
			  st.end.kind, (u64)st.end.exit_code, what, st.end.reason, st.end.msg);

	file_write(AT_FDCWD, runtime_path("last_exit"), text, n, false);
}

/* Removes what says that gamer runs. A gamer without the lock leaves the files of the other one alone. */
static void run_close(void)
{
	struct sockaddr_un sa = socket_address();

	if (st.lock_fd < 0)
		return;
	if (st.fair)
		fair_restore();
	unlink(sa.sun_path);
	write_atomic("status", "gamer: stopped\n", 15);
	metrics_write(false);
}

/* A child of gamer writes nothing about gamer's end. */
static void run_died(int code, const char *why)
{
	if (getpid() != st.pid)
		return;
	last_exit(code, why);
	run_close();
}

static void run_crashed(int sig)
{
	run_died(128 + sig, strsignal(sig));
	raise(sig);		/* its own handler is gone: SA_RESETHAND */
}

/* The kernel ended the scheduler, or did not let it begin; returns the exit code. */
static int run_ended(const char *what)
{
	/* sysrq-S: a person wants the machine back, and systemd must not start gamer again */
	int code = (u32)st.end.kind == st.kernel_const[KCONST_SCX_EXIT_SYSRQ] ? EX_OK : EX_SOFTWARE;

	last_exit(code, what);
	note("%s%s%s%s%s", what, st.end.reason[0] ? ": " : "", st.end.reason, st.end.msg[0] ? ": " : "", st.end.msg);
	return code;
}

/* Did the kernel end the scheduler only because CPUs came or went? */
static bool run_wants_restart(void)
{
	return st.exited && (st.end.exit_code & st.kernel_const[KCONST_SCX_ECODE_ACT_RESTART]);
}

/* Attaches, serves and detaches once. Returns an exit code, or -1: CPUs or modules have changed, start again. */
static int run_once(void)
{
	int err, code = EX_OK;
	struct db_profile *p;
	char text[128];

	caps_set(caps_get(false), caps_get(false));
	if (st.modules_came)
		kernel_check();
	st.modules_came = false;
	topo_read();
	bpf_load();
	for (p = db.known.profile; p < db.known.profile + db.known.count; p++)
		db_foretell(p);
	err = bpf_attach();
	if (err) {
		scx_look();
		if (!st.exited)
			st.end = (struct scx_end){ 0 };
		snprintf(text, sizeof(text), "the kernel refused the scheduler: %s", strerror(-err));
		code = run_wants_restart() ? -1 : run_ended(text);
		db_from_bpf();
		bpf_unload();
		return code;
	}
	loop_add_rings();
	privileges_drop(folder_foreign(AT_FDCWD, runtime_dir()) || (db.kept && folder_foreign(db.dir_fd, ".")));
	if (st.tests & 1U << TEST_CALL)
		note("a forbidden call: %s", getppid() < 0 ? "fails" : "works");
	game_open();
	note("%s", summary());
	status_changed();
	st.allocs = 0;
	st.attached = true;
	loop();
	if (st.exited)
		code = run_wants_restart() ? -1 : run_ended("the kernel ended the scheduler");
	else if (st.modules_came)
		code = -1;
	game_close();
	db_from_bpf();
	bpf_unload();
	return code;
}

/* Waits before the next try; a signal to stop ends the wait at once. */
static void run_back_off(u32 seconds, u32 try)
{
	struct pollfd fds[] = {
		{ .fd = st.signal_fd, .events = POLLIN }, { .fd = loop_timers[EV_WATCHDOG], .events = POLLIN },
	};
	u64 until = now_ns() + seconds * NSEC_PER_SEC, now;
	char text[128];
	size_t n;

	n = text_f(text, sizeof(text), "gamer %s: restart %u of %u in %u s\n", GAMER_VERSION, try,
		   (u32)args.run.restarts, seconds);
	write_atomic("status", text, n);
	metrics_write(false);
	text[n - 1] = 0;
	sd_notify_("STATUS=%s", text);
	note("%s", strstr(text, "restart"));
	while (!st.stop && (now = now_ns()) < until) {
		poll(fds, ARRAY_SIZE(fds), (until - now) / NSEC_PER_MSEC + 1);
		on_signal();
		if (timer_ended(EV_WATCHDOG))
			on_watchdog();
	}
}

/* How often gamer has failed in a row, this time included. CLOCK_MONOTONIC does not count suspend. */
static u32 run_failures(u64 now)
{
	static u64 last_ns;
	static u32 failures;

	failures = failures && now - last_ns < FAILURES_NS ? failures + 1 : 1;
	last_ns = now;
	return failures;
}

/* Runs until somebody asks to stop or the kernel has ended the scheduler too often; returns the exit code. */
static int run_again_and_again(void)
{
	u32 failures;
	int code;

	while (!st.stop && (code = run_once())) {
		if (code > 0 && !st.stop) {
			failures = run_failures(now_ns());
			if (failures > (u32)args.run.restarts)
				return code;
			run_back_off(MIN(1U << MIN(failures - 1, 6U), BACK_OFF_MAX_S), failures);
		}
		st.restarts += !st.stop;
	}
	return EX_OK;
}

static int cmd_run(void)
{
	static const char *const tests[] = {
#define PART_TEST(id, name) [PART_##id] = "no-" #name,
		PARTS(PART_TEST)
		[TEST_ERROR] = "error", [TEST_STALL] = "stall", [TEST_CALL] = "call",
		[TEST_PERF] = "perf",
	};
	int code;

	signals_catch(run_crashed);
	mkdir(runtime_dir(), 0755);	/* for last_exit; run_lock() says where it fails */
	st.verbose = args.run.verbose;
	hooks_parse(args.run.hooks);
	st.tests = list_parse("test", args.run.test, tests, TEST_NR);
	game_check_option();
	if (args.run.fast_cpus)
		topo_read();		/* a wrong list is told before anything else */
	limits_check(true);
	run_check_kernel();
	run_spare();
	db_open();
	loop_open();
	code = run_again_and_again();
	sd_notify_("STOPPING=1");
	if (st.stop)
		last_exit(code, "asked to stop");
	run_close();
	return code;
}

static int cmd_restore(void)
{
	int n;

	st.fair = true;
	if (missing_capability() && !(caps_get(true) & 1ULL << CAP_SYS_NICE))
		die(EX_NOPERM, "not permitted without CAP_SYS_NICE (run as root)");
	run_lock();
	fair_probe();
	n = fair_restore();
	if (n >= 0)
		printf("%d threads were listed\n", n);
	return n < 0 ? EX_CONFIG : EX_OK;
}

static int cmd_status(void)
{
	if (args.status.json && args.status.metrics)
		die(EX_USAGE, "status: --json and --metrics exclude each other");
	return conn_print(args.status.json ? "status" : args.status.metrics ? "metrics" : "text");
}

static const char *const prog_kinds[] = { "tp_btf", "fentry", "fexit", "kretprobe", "uprobe" };

/* What a hook attaches to, on this kernel or (`all`) on any: " fentry drm_ioctl, ..." */
static const char *hook_places(u32 id, bool all)
{
	static char text[256];
	size_t n = 0, i;

	text[0] = 0;
	for (i = 0; i < PROG_NR && n < sizeof(text); i++)
		if (progs[i].hook == id && (all || !st.prog_why[i]))
			n += snprintf(text + n, sizeof(text) - n, "%s%s %s", n ? ", " : " ",
				      prog_kinds[progs[i].kind], progs[i].target);
	return text;
}

static void check_text(struct out *o, const char *release, const char *why, const char *attached)
{
	int i;

	out_f(o, "kernel      %s\n", release);
	out_f(o, "sched_ext   %s\n", why ? why : attached ? attached : "available");
	out_f(o, "backend     %s%s%s%s\n", st.fair ? "fair, by nice value" : "scx",
	      !st.fair ? "" : fair.slices ? " and slice" : " alone: this kernel has no slices",
	      st.fair ? "; " : "", st.fair_why);
	out_f(o, "permission  %s %s\n", missing_capability() ? : "CAP_BPF and CAP_PERFMON",
	      missing_capability() ? "missing" : "held");
	for (i = 0; i < HOOK_NR; i++)
		out_f(o, "hook %-10s %s%s%s  (%s)\n", hooks[i].name, st.hook_why[i] ? st.hook_why[i] : "available",
		      st.hook_why[i] ? "; instead: " : hook_places(i, false),
		      st.hook_why[i] ? hooks[i].fallback : "", hooks[i].help);
}

static void check_json(struct out *o, const char *release, const char *why, const char *attached)
{
	struct json j;
	int i;

	json_begin(&j, o, "check");
	json_f(&j, "kernel=%s sched_ext=%u why=%s attached=%s backend=%s backend_why=%s slices=%u "
	       "missing_capability=%s hooks[", release, !why, why, attached, st.fair ? "fair" : "scx", st.fair_why,
	       fair.slices, missing_capability());
	for (i = 0; i < HOOK_NR; i++)
		json_f(&j, "{name=%s available=%u why?=%s instead?=%s by?=%s}", hooks[i].name, !st.hook_why[i],
		       st.hook_why[i], st.hook_why[i] ? hooks[i].fallback : NULL,
		       st.hook_why[i] ? NULL : hook_places(i, false));
	json_close(&j, ']');
	json_end(&j);
}

static int cmd_check(void)
{
	const char *why;
	struct utsname un;
	char name[128];
	bool attached;

	st.verbose = args.check.verbose;
	hooks_parse(args.check.hooks);
	uname(&un);
	why = kernel_check() ? : scx_isolated();
	attached = scx_attached(name, sizeof(name));
	fair_probe();
	backend_choose(BACKEND_AUTO);
	(args.check.json ? check_json : check_text)(&std_out, un.release, why, attached ? name : NULL);
	return EX_OK;
}

static void db_list_json(struct out *o)
{
	struct db_profile *p;
	struct json j;
	u32 i;

	json_begin(&j, o, "db");
	json_f(&j, "version=%u programs[", db.known.version);
	for (p = db.known.profile; p < db.known.profile + db.known.count; p++) {
		json_f(&j, "{comm=%s exe=%u tier=%s confidence=%.3f observations=%u votes{", p->key.comm, p->key.exe,
		       tier_names[db_tier(p)], db_confidence(p), p->observations);
		for (i = 0; i < TIER_NR; i++)
			json_u64(&j, tier_names[i], p->votes[i]);
		json_f(&j, "} burst_ns=%lu dev_ns=%lu wakeups_hz=%lu switches_hz=%lu role=%s role_votes=%u seen_s=%lu}",
		       p->burst_ns, p->dev_ns, p->wakeups_hz, p->switches_hz, role_names[p->role], p->role_votes,
		       p->seen_s);
	}
	json_f(&j, "]");
	json_end(&j);
}

/* A time in us; what a 32-bit average could not hold is no figure. */
static const char *db_us(char text[16], u64 ns)
{
	snprintf(text, 16, ns < UINT32_MAX ? "%.1f" : ">4000000", ns / 1e3);
	return text;
}

static void db_list_text(struct out *o)
{
	char burst[16], dev[16], seen[16], days[16];
	struct db_profile *p;

	out_f(o, "%-15s %-8s %-12s %5s %6s %10s %10s %8s %-10s %5s\n", "program", "path", "tier",
	      "sure%", "seen", "burst us", "varies us", "wakes/s", "role", "days");
	for (p = db.known.profile; p < db.known.profile + db.known.count; p++) {
		snprintf(seen, sizeof(seen), p->observations < UINT32_MAX ? "%u" : "many", p->observations);
		snprintf(days, sizeof(days), p->seen_s ? "%.0f" : "-",
			 (double)(db_now(&db.known) - MIN(p->seen_s, db_now(&db.known))) / 86400);
		out_f(o, "%-15s %08x %-12s %5.0f %6s %10s %10s %8" PRIu64 " %-10s %5s\n",
		      p->key.comm, p->key.exe, tier_names[db_tier(p)], db_confidence(p) * 100, seen,
		      db_us(burst, p->burst_ns), db_us(dev, p->dev_ns), p->wakeups_hz, role_names[p->role], days);
	}
}

static int db_list(void)
{
	qsort(db.known.profile, db.known.count, sizeof(*db.known.profile), db_compare);
	(args.db.json ? db_list_json : db_list_text)(&std_out);
	return EX_OK;
}

static int db_export(void)
{
	const char *file = args.db.file;
	size_t size = db_encode(db.file, &db.known, args.db.v2 ? 2 : 3);
	int code = 0;

	if (file)
		code = file_write(AT_FDCWD, file, db.file, size, true);
	else if (isatty(STDOUT_FILENO))
		die(EX_USAGE, "the database is binary: name a FILE to export it to");
	else if (!write_all(STDOUT_FILENO, (char *)db.file, size))
		code = file_fails(EX_IOERR, strerror(errno));
	if (code)
		die(code, "cannot write %s: %s", file ? : "to standard output", file_why);
	return EX_OK;
}

/* Where both databases know a program, the one that observed it more often counts. */
static int db_import(void)
{
	static struct db_table other;
	const char *file = args.db.file;
	int fd = file ? open(file, O_RDONLY | O_NOCTTY | O_CLOEXEC) : STDIN_FILENO, code;
	struct db_profile *p, *mine;

	if (fd < 0)
		die(errno == EACCES ? EX_NOPERM : EX_NOINPUT, "%s: %s", file, strerror(errno));
	if (db_read_fd(fd, &other) != DB_OK)
		die(EX_CONFIG, "%s %s", file ? : "standard input", db_why);
	for (p = other.profile; p < other.profile + other.count; p++) {
		mine = db_find(&db.known, &p->key);
		if (mine && mine->observations > p->observations)
			continue;
		if (!mine)
			mine = db_add(&p->key);
		*mine = *p;
	}
	code = db_save();
	if (code)
		die(code, "cannot write %s: %s", db.path, file_why);
	return EX_OK;
}

static int db_check(void)
{
	struct prediction to;
	u32 i, sure = 0;

	for (i = 0; i < db.known.count; i++)
		sure += db_predict(&db.known.profile[i], &to);
	if (db.known.version)
		out_f(&std_out, "%s: version %u, %u programs, of which %u are predicted\n",
		      db.path, db.known.version, db.known.count, sure);
	else
		out_f(&std_out, "no process database yet\n");
	return EX_OK;
}

static int db_clear(void)
{
	if (unlinkat(db.dir_fd, db.name, 0) && errno != ENOENT)
		die(errno == EACCES || errno == EPERM ? EX_NOPERM : EX_IOERR, "cannot remove %s: %s",
		    db.path, strerror(errno));
	return EX_OK;
}

static int cmd_db(void)
{
	static const struct {
		int (*fn)(void);
		bool writes;	/* changes the database, which no other gamer may do meanwhile */
		bool file;	/* --file names another file than the database */
	} actions[] = {
		{ db_list, false, false }, { db_export, false, true }, { db_import, true, true },
		{ db_check, false, false }, { db_clear, true, false },
	};
	bool writes = actions[args.db.action].writes;
	enum db_result result = DB_NONE;

	db.wanted = args.db.db;
	if (args.db.file && !actions[args.db.action].file) {
		if (db.wanted)
			die(EX_USAGE, "db: '%s' and --db name two databases", args.db.file);
		db.wanted = args.db.file;
	}
	if (db_place(writes)) {
		if (writes && flock(db.dir_fd, LOCK_EX | LOCK_NB))
			die(EX_TEMPFAIL, "%s is in use by a running gamer", db.path);
		result = db_read(db.dir_fd, db.name, &db.known);
	} else if (writes) {
		die(EX_NOPERM, "no folder for the process database can be written");
	} else if (db.wanted && *db.wanted && access(db.wanted, F_OK)) {
		die(errno == EACCES ? EX_NOPERM : EX_NOINPUT, "%s: %s", db.wanted, strerror(errno));
	}
	if (result == DB_DENIED)
		die(EX_NOPERM, "%s %s", db.path, db_why);
	if (result == DB_REFUSED || (result == DB_BAD && actions[args.db.action].fn != db_clear))
		die(EX_CONFIG, "%s %s", db.path, db_why);
	return actions[args.db.action].fn();
}

static int cmd_unit(void)
{
	static const char unit[] =
		"[Unit]\n"
		"Description=gamer, a scheduler that runs the next frame first\n"
		"StartLimitIntervalSec=300\n"
		"StartLimitBurst=5\n"
		"\n"
		"[Service]\n"
		"Type=notify\n"
		"ExecStart=%1$s run\n"
		"ExecStopPost=-%1$s restore\n"	/* a gamer that was killed may have left threads advised */
		"RuntimeDirectory=gamer\n"
		"RuntimeDirectoryPreserve=yes\n"	/* last_exit is read after the end */
		"StateDirectory=gamer\n"
		"Restart=on-failure\n"
		"RestartSec=2\n"
		"RestartPreventExitStatus=64 69 77 78\n"
		"WatchdogSec=30\n"
		"KillMode=process\n"		/* a child that hangs holds up no stop and no restart */
		"\n"
		/* CHOWN: --socket-group; the others: caps[] */
		"CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_CHOWN CAP_SYS_PTRACE "
		"CAP_CHECKPOINT_RESTORE CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_SYS_NICE\n"
		"OOMScoreAdjust=-1000\n"
		"NoNewPrivileges=yes\n"
		"ProtectSystem=strict\n"	/* but for the two directories above */
		"ProtectHome=read-only\n"
		"PrivateDevices=yes\n"
		"ProtectClock=yes\n"
		"ProtectHostname=yes\n"
		"ProtectKernelLogs=yes\n"
		"ProtectKernelModules=yes\n"
		"ProtectKernelTunables=yes\n"
		"RestrictAddressFamilies=AF_UNIX AF_NETLINK\n"
		"IPAddressDeny=any\n"
		"RestrictNamespaces=yes\n"
		"RestrictRealtime=yes\n"
		"RestrictSUIDSGID=yes\n"
		"LockPersonality=yes\n"
		"MemoryDenyWriteExecute=yes\n"
		"SystemCallArchitectures=native\n"
		"\n"
		"[Install]\n"
		"WantedBy=multi-user.target\n";
	char self[256];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[MAX(n, 0)] = 0;
	if (self[strcspn(self, " \t\n\"'\\%$")])
		die(EX_USAGE, "a systemd unit cannot name the path of this binary: %s", self);
	printf(unit, n > 0 ? self : "/usr/local/bin/gamer");
	return EX_OK;
}

/* The word that stands for an option's value in help texts. */
static const char *option_value(const struct option_desc *d)
{
	return d->type == OPT_FLAG ? "" : d->type == OPT_CHOICE ? "WORD" : d->arg ? d->arg : "N";
}

/* Text for roff: what is typed stays what it is, no line is taken for a request, and a list of words may break. */
static void man_text(const char *s)
{
	static const char plain[] = "-\\'`^~\"|\n";
	static const char *const roff[] = { "\\-", "\\e", "\\(aq", "\\(ga", "\\(ha", "\\(ti", "\\(dq", "|\\:", "\n\\&" };
	const char *at;

	fputs("\\&", stdout);
	for (; *s; s++)
		if ((at = strchr(plain, *s)))
			fputs(roff[at - plain], stdout);
		else
			putchar(*s);
	putchar('\n');
}

__attribute__((format(printf, 2, 3)))
static void man_entry(const char *term, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf(".TP\n.B ");
	man_text(term);
	man_text(text);
}

/* The next option from *i on that a command takes and people may know of; NULL: no more. */
static const struct option_desc *option_next(u32 cmd, u32 *i)
{
	const struct option_desc *d;

	while (*i < ARRAY_SIZE(options)) {
		d = &options[(*i)++];
		if (d->help && (d->cmd == cmd || d->cmd == CMD_all))
			return d;
	}
	return NULL;
}

/* The option that a command's n-th bare word stands for; NULL: it takes no such word. */
static const struct option_desc *option_word(u32 cmd, u32 n)
{
	const struct option_desc *d = options;

	if (n >= commands[cmd].words)
		return NULL;
	while (d->cmd != cmd)
		d++;
	return d + n;
}

/* The words that an option takes, with '|' between; NULL: it takes anything. *list: several, with commas between. */
static const char *option_words(const struct option_desc *d, bool *list)
{
#define X(id, name, ...) "|" #name
	static const char types[] = EVENTS(X);
#undef X
#define X(id, name, ...) "|-" name
	static const char switches[] = HOOKS(X);
#undef X

	*list = true;
	if (d->to.STR == &args.events.type)
		return types + 1;
	if (d->to.STR == &args.run.hooks || d->to.STR == &args.check.hooks)
		return switches + sizeof("|-sched");	/* which cannot be switched */
	*list = false;
	return d->type == OPT_CHOICE ? d->arg : NULL;
}

/* What an option means, with its bounds or its choices. */
static void option_help(const struct option_desc *d, char *text, size_t size)
{
	int n = snprintf(text, size, "%s", d->help);
	const char *words;
	bool list;

	words = option_words(d, &list);
	if (words)
		snprintf(text + n, size - n, " (%s)", words);
	if (d->type == OPT_NUM)
		snprintf(text + n, size - n, " (%" PRId64 "..%" PRId64 ", default %" PRId64 ")", d->min,
			 d->max, d->def);
}

static void man_options(u32 cmd)
{
	const struct option_desc *d;
	char term[64], text[512];
	u32 i;

	for (i = 0; (d = option_next(cmd, &i)); ) {
		if (d->cmd != cmd)
			continue;
		snprintf(term, sizeof(term), "--%s%s%s%s%c", d->name, *option_value(d) ? " " : "",
			 option_value(d), d->letter ? ", -" : "", d->letter);
		option_help(d, text, sizeof(text));
		man_entry(term, "%s", text);
	}
}

static void man_stats(void)
{
	const struct stat_desc *d;
	char term[64];

	for (d = stats; d < stats + ARRAY_SIZE(stats); d++) {
		snprintf(term, sizeof(term), "%s%s", d->name, units[d->unit].suffix);
		man_entry(term, "%s (%s%s%s)", d->help, stat_types[d->type], d->label ? " by " : "", d->label ? : "");
	}
}

static void man_commands(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		printf(".SS gamer %s\n", commands[i].name);
		man_text(commands[i].help);
		man_options(i);
	}
	printf(".SS Options of all commands\n");
	man_options(CMD_all);
}

static void man_advice(void)
{
	u32 i;

	for (i = 0; i < ROLE_NR; i++)
		if (fair_advice[i].nice)
			man_entry(role_names[i], fair_advice[i].slice_us ? "nice %d, slice %u us%s" : "nice %d",
				  fair_advice[i].nice, fair_advice[i].slice_us,
				  fair_advice[i].realtime ? "; with --realtime SCHED_FIFO" : "");
}

static void man_capabilities(void)
{
	static const char *const when[] = {
		[CAP_START] = "to load and attach, at the start and when CPUs or modules come and go",
		[CAP_READ] = "in the child that reads what belongs to other processes",
		[CAP_FILES] = "where the runtime directory, the database's folder or the game's cgroup is another user's",
		[CAP_FAIR] = "to advise threads",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(caps); i++)
		man_entry(caps[i].name, "%s%s%s", when[caps[i].when], caps[i].lost[0] ? "; without it: " : "",
			  caps[i].lost);
}

static void man_hooks(void)
{
	u32 i;

	for (i = 0; i < HOOK_NR; i++)
		man_entry(hooks[i].name, "%s; without it: %s%s%s", hooks[i].help, hooks[i].fallback,
			  *hook_places(i, true) ? ";" : "", hook_places(i, true));
}

/*
 * The manual in its order: section, or NULL where one goes on; term, or NULL; text; what a table holds. Text
 * without a term is a paragraph, or, behind a tab, what a person types.
 */
static const struct { const char *section, *term, *text; void (*table)(void); } manual[] = {
	{ .section = "DESCRIPTION", .text = "gamer attaches to the kernel through sched_ext, watches what threads "
	  "really do (submit work to the GPU, flip pages, read a mouse, move sound, set priorities under Wine, run "
	  "with the rhythm of frames), and runs the threads that make the next frame first, with the threads that "
	  "these wait for. All other work shares the rest by weight. When gamer ends, however it ends, the kernel's "
	  "own scheduler takes over at once." },
	{ .text = "Where gamer cannot schedule, or another scheduler of sched_ext is attached, gamer may advise the "
	  "scheduler that is there: a nice value and, since kernel 6.12, a slice for each role (run --backend). gamer "
	  "check and gamer status say which it is, and why." },
	{ .text = "gamer finds the game by what a process does now (draws at a steady rate, reads a gamepad, fills "
	  "the screen by itself) and by what it is (started by a launcher, or an application of the desktop)."
	  " An application is a game where its description has the category Game (NAME.desktop in "
	  "/usr/share/applications and the like, not in a home folder; NAME as in the process's control "
	  "group, or else the program's). A game of another application that is played by keyboard alone is "
	  "none to gamer, and neither is a page of a browser. A program of no application that draws at a "
	  "steady rate (a moving wallpaper, a recorder, in a session without systemd) looks like a game. Of two "
	  "that draw on with the same score, and without a gamepad, the first stays the game, unless the other one "
	  "began to draw since then and was the game before, or launchers or descriptions tell that it is another "
	  "game: gamer does not see for which one the keyboard is. Who serves the display to which the game is "
	  "connected is its compositor. gamer status says in one line why the game is the game, and which process "
	  "is next. Where that errs, GAMER_GAME=1 in the environment of a process or --game PID decides. A game "
	  "belongs to a user, whose other processes serve it; a process of another user does not take its place. "
	  "While somebody sits at the first seat, a user without a seat has no game." },
	{ .text = "gamer learns what tasks of each program are like (how long they run, batch work or not, the role "
	  "of a game's thread that a device proved), so that the next task of that program begins with it. gamer "
	  "tells programs apart by name and path. The database holds 512 programs at most, forgets each 30 days after "
	  "that program last ran, and is written when gamer ends, and every 10 minutes while no game runs." },
	{ .text = "The kernel ends gamer's scheduler when a task has waited for 5 seconds. gamer then starts again "
	  "after 1, 2, 4 s and so on, --restarts times in a row, and ends with 70. After an hour without a failure "
	  "gamer counts anew." },
	{ .section = "COMMANDS", .table = man_commands },
	{ .section = "EXAMPLES", .term = "gamer", .text = "Schedule until Ctrl-C (as root)." },
	{ .term = "gamer run --backend auto --game-weight 4", .text = "Advise where another scheduler is attached; "
	  "the game outweighs other work four times." },
	{ .term = "gamer run --hooks=-wine,-cpuperf -p balanced", .text = "Do without two hooks, in a power profile "
	  "of your choice." },
	{ .term = "GAMER_GAME=1 %command%", .text = "As a launch option of Steam: this is the game." },
	{ .term = "gamer events --type classification,deadline_miss --seconds 60", .text = "What happens, as JSON "
	  "lines." },
	{ .term = "gamer events --trace game.json --seconds 10", .text = "The same for ui.perfetto.dev or "
	  "chrome://tracing." },
	{ .term = "gamer status --metrics", .text = "OpenMetrics, for Prometheus." },
	{ .term = "gamer profile -s 10 -p 1234", .text = "Where the time of a process and its children goes." },
	{ .term = "gamer profile --folded -o make.folded -- make", .text = "Stacks for flamegraph.pl." },
	{ .term = "gamer db export learned.db", .text = "Keep what was learned; gamer db import learned.db takes it "
	  "back." },
	{ .term = "gamer restore", .text = "Put back what a gamer that was killed had given to threads." },
	{ .term = ". <(gamer completions bash)", .text = "Completions in this shell; also zsh. fish: gamer "
	  "completions fish | source" },
	{ .section = "ADVICE", .text = "What --backend fair gives to a thread of the game or of its servers. Threads "
	  "of others get nothing, nor do busy threads (cpu_bound) where those that do not sleep fill all CPUs: such a "
	  "game loads." },
	{ .table = man_advice },
	{ .text = "What a thread had before is put back when its role or gamer ends, and after SIGKILL by the next "
	  "start or by gamer restore. What somebody else changes meanwhile stays. Real-time, deadline, SCHED_IDLE and "
	  "kernel threads are not touched, nor are threads that chose their own nice value or slice. nice values rank "
	  "within a cgroup or, without one, within a session (autogroup). Where the game is alone in it, the cgroup's "
	  "cpu.weight becomes 8 times what it was, or the session's nice value -9; where others are in it, gamer "
	  "status says that this limits the effect (systemd-run --user --scope COMMAND starts a game in a cgroup of "
	  "its own). Before kernel 6.12 there are no slices, and nice values work alone. --realtime gives SCHED_FIFO "
	  "to threads of input, audio and gpu whose bursts are short, and takes it back from a thread that runs "
	  "longer." },
	{ .section = "PROFILING", .text = "For each thread and stack gamer profile tells how long and how often the "
	  "thread was off its CPU, and why: sleep, disk (I/O, uninterruptible), uninterruptible (other waits in the "
	  "kernel), preempted, runqueue (woken, no CPU yet), stopped, traced. For each thread it tells the times from "
	  "wakeup to run. Then come system calls by name and category (32-bit calls apart), futex waits, block "
	  "requests, page faults, context switches, and cache misses where the hardware counts them. --json has all "
	  "of it." },
	{ .text = "A thread's time begins with the recording or with the thread's creation (the wait for its first "
	  "run is runqueue), and ends with the thread's last switch or the recording. The behaviour is cpu_bound or, "
	  "by the calls, io_bound, network_bound, memory_bound or mixed; a command that mostly waits for time, for "
	  "its own threads or for readiness is unknown." },
	{ .text = "gamer profile needs CAP_BPF and CAP_PERFMON, and neither sched_ext nor a running gamer. Without "
	  "them it tells what /proc tells (\"source\":\"proc\"), system calls as samples 10 times a second; options "
	  "that need more are refused. In a PID namespace processes have the numbers of that namespace, and /proc "
	  "must be its own." },
	{ .text = "Names come from the symbols of the files that are mapped, from debug files by build ID, and from "
	  "/tmp/perf-PID.map (of the process's user, or of root if all may read it); Windows modules are named by "
	  "file and offset. Names are read for 10 seconds at most, a million of a file; the report says what it "
	  "lacks. Names of C++ and Rust are shown as in their source. Stacks follow frame pointers; one caller that they "
	  "skip is found by the call instruction before the return address. With --json or --folded and without "
	  "--output the command's own output goes to standard error." },
	{ .section = "START AT BOOT", .term = "systemd", .text = "The unit is active when gamer schedules, not "
	  "before. systemd starts a gamer that crashed again, 5 times in 5 minutes, but not where a new start cannot "
	  "help (64, 69, 77, 78)." },
	{ .text = "\tinstall -D gamer /opt/gamer/gamer\n/opt/gamer/gamer unit "
	  ">/etc/systemd/system/gamer.service\nsystemctl enable --now gamer" },
	{ .term = "scx.service", .text = "finds gamer by its name on PATH, where /usr/bin can be written:" },
	{ .text = "\tinstall /opt/gamer/gamer /usr/bin/gamer\n"
	  "sed -i 's/^SCX_SCHEDULER=.*/SCX_SCHEDULER=gamer/; s/^SCX_FLAGS=.*/SCX_FLAGS=/' /etc/default/scx\n"
	  "systemctl restart scx" },
	{ .term = "scx_loader, scxctl", .text = "start the schedulers of a list of their own, on which gamer is not "
	  "(1.1.3); scxctl stop ends theirs. For one with scx_gamer on its list make install SCX_LINK=1 makes the "
	  "link of that name; its flags were none for auto, -p performance for gaming and lowlatency, -p powersave "
	  "and -p balanced (server)." },
	{ .term = "busybox init", .text = "starts gamer again and again where gamer cannot run, so look at gamer "
	  "check first:" },
	{ .text = "\techo \"::respawn:/bin/sh -c '/opt/gamer/gamer && exec sleep 99999999'\" >>/etc/inittab\n"
	  "kill -HUP 1" },
	{ .term = "OpenRC", .text = "knows it as a service:" },
	{ .text = "\tprintf '%s\\n' '#!/sbin/openrc-run' command=/opt/gamer/gamer command_background=yes \\\n"
	  "    pidfile=/run/gamer.pid >/etc/init.d/gamer\nchmod 755 /etc/init.d/gamer\n"
	  "rc-update add gamer && rc-service gamer start" },
	{ .term = "An initramfs", .text = "needs the one file, /sys, a writable /run, and /proc to find games. gamer "
	  "says what is not mounted, and mounts nothing." },
	{ .section = "CAPABILITIES", .text = "gamer uses a capability only as follows, and gives up all others:" },
	{ .table = man_capabilities },
	{ .text = "Once attached gamer has none in force but CAP_SYS_NICE where it advises, and CAP_DAC_OVERRIDE "
	  "where a folder is another user's. What loading and the child need is permitted, and is taken up for the "
	  "moment. System calls that gamer does not need fail with EPERM and are logged (--no-seccomp). A process "
	  "whose memory is locked is left out, and waited for by nobody. Without root these suffice to schedule, with "
	  "a RUNTIME_DIRECTORY of the user's:" },
	{ .text = "\tsetcap cap_bpf,cap_perfmon+ep gamer" },
	{ .section = "HOOKS", .text = "What gamer takes from the kernel, by what the kernel has and never by its "
	  "version. Each hook is tried alone; one that is missing or refused costs nothing but itself. gamer check "
	  "shows this for the running kernel, and --hooks=-NAME leaves a hook out. A call counts only where it "
	  "succeeded. A module with a hook in it cannot be unloaded while gamer runs." },
	{ .table = man_hooks },
	{ .section = "STATISTICS", .table = man_stats },
	{ .section = "EXIT STATUS", .term = "0", .text = "gamer was asked to stop, by a signal or by the keys "
	  "below." },
	{ .term = "64", .text = "Wrong usage." },
	{ .term = "66", .text = "There is no such file, process or thread." },
	{ .term = "69", .text = "run --backend scx: the kernel has no sched_ext, or refuses schedulers (isolcpus=). "
	  "Any run: the kernel has no BTF, or forbids BPF to read (lockdown=confidentiality). status, top, events: no "
	  "gamer runs, answers within 10 s or has a place for a client." },
	{ .term = "70", .text = "The kernel ended the scheduler for an error or a stall, or refuses the BPF programs; "
	  "last_exit says which." },
	{ .term = "71", .text = "The kernel gives no memory, process or descriptor." },
	{ .term = "73, 74", .text = "A file cannot be made (73), or not be read or written (74)." },
	{ .term = "75", .text = "Another gamer runs, or, without --backend and with --backend scx, another scheduler "
	  "of sched_ext is attached; it is named. --backend auto and fair advise it instead." },
	{ .term = "77", .text = "Not permitted; the capability or limit that is missing is named." },
	{ .term = "78", .text = "The process database or the list of advised threads is damaged or somebody else's." },
	{ .term = "128 and more", .text = "gamer crashed by the signal of that number less 128." },
	{ .text = "gamer profile -- COMMAND ends with the status of COMMAND." },
	{ .section = "SIGNALS", .term = "SIGINT, SIGTERM", .text = "End; the kernel's own scheduler takes over at "
	  "once." },
	{ .term = "SIGHUP", .text = "Look at the power supply and the platform's profile again." },
	{ .term = "SIGUSR1", .text = "Print the status to standard output." },
	{ .term = "Alt-Shift-SysRq-S", .text = "These keys end any scheduler of sched_ext, where kernel.sysrq is 1 or "
	  "has bit 256; without Shift they write disks. gamer then ends with 0, and systemd does not start it "
	  "again." },
	{ .section = "ENVIRONMENT", .term = "RUNTIME_DIRECTORY, STATE_DIRECTORY", .text = "Used in place of "
	  "/run/gamer and /var/lib/gamer; systemd sets them. Of several folders the first counts." },
	{ .term = "NOTIFY_SOCKET, WATCHDOG_USEC", .text = "gamer tells systemd when it schedules, what it does, and "
	  "that it lives." },
	{ .term = "GAMER_GAME", .text = "Set to 1 for a process: that is the game." },
	{ .term = "XDG_CACHE_HOME, HOME", .text = "Where the database lies that no other place takes." },
	{ .term = "NO_COLOR, COLUMNS", .text = "No colours, and another width, in gamer top." },
	{ .section = "FILES", .term = "/run/gamer/status", .text = "What gamer does, in words and values, rewritten "
	  "once a second while a game runs. MangoHud shows a line of it with legacy_layout=0 and exec=grep fps "
	  "/run/gamer/status in its configuration." },
	{ .term = "/run/gamer/last_exit", .text = "Why gamer last ended, but by SIGKILL." },
	{ .term = "/run/gamer/gamer.sock", .text = "Answers {\"cmd\":\"status\"} and {\"cmd\":\"events\"} with JSON "
	  "lines. It is root's; --socket-group opens it for a group. It has 8 places: who listens to no events gives "
	  "way to who comes, a user with more than a fair share to others, every user to root. A client that does not "
	  "read is dropped, and counted." },
	{ .term = "/run/gamer/lock", .text = "Locked while a gamer runs." },
	{ .term = "$RUNTIME_DIRECTORY/fair", .text = "While gamer advises: which threads have what, and had before." },
	{ .term = "/var/lib/gamer/process.db", .text = "What gamer has learned. The first that can be written counts "
	  "of --db FILE, $STATE_DIRECTORY/process.db, this one, and $XDG_CACHE_HOME/gamer/process.db (~/.cache); with "
	  "none, or --db=, memory alone. A damaged one is kept as process.db.bad; one that another user owns or could "
	  "write is not touched." },
	{ .text = "gamer writes these, what options name, and nothing else, and opens no network connection. Each "
	  "file is written whole under a name of its own in the same folder (.NAME.gamer-0), and then takes its name, "
	  "with the mode of the file that it replaces. A device, pipe, link or folder in its place is refused (73). "
	  "For --metrics-file gamer has no capability: the mode of its folder must let gamer's user write." },
	{ .section = "LIMITS", .text = "A cgroup's weight counts for each of its tasks, along the path to the root, "
	  "and is not divided among them; cpu.max is not kept while gamer schedules. What a task owes is forgotten "
	  "after half a second of waiting, so very small shares (nice 19 beside many others) come out larger than the "
	  "kernel's own." },
	{ .text = "Not seen are 32-bit Windows threads under old WoW64 (with a 32-bit ntdll.so), a priority class "
	  "that a parent gives at creation, and priorities set within 100 ms by the first Windows program. NVIDIA's "
	  "own driver submits without system calls: who opens it is a hint, which the pattern must confirm. Servers "
	  "(compositor, sound) are known by name or by what they do; a program may call itself so." },
	{ .text = "Kernels 6.14 to 6.19 may deadlock where a CPU goes offline in the moment that gamer, or another "
	  "program with BPF task storage, ends. Before 7.0, where programs that never sleep start in the moment that a "
	  "scheduler of sched_ext ends, as many as there are CPUs, the kernel may never end it. While gamer runs, CPUs "
	  "may come and go. 512 CPUs and 64 last-level caches at most." },
	{ .text = "gamer profile does not run on kernel 6.1, which refuses one of its programs." },
	{ .section = "SEE ALSO", .text = "sched(7), sched_setattr(2), cgroups(7), capabilities(7)" },
};

static int cmd_man(void)
{
	u32 i;

	printf(".TH GAMER 8 " GAMER_DATE " \"gamer " GAMER_VERSION "\"\n.SH NAME\ngamer \\- schedule the threads that make "
	       "the next frame first\n.SH SYNOPSIS\n.B gamer\n[\\fICOMMAND\\fR] [\\fIOPTION\\fR]...\n");
	for (i = 0; i < ARRAY_SIZE(manual); i++) {
		if (manual[i].section)
			printf(".SH %s\n", manual[i].section);
		if (manual[i].term) {
			man_entry(manual[i].term, "%s", manual[i].text);
		} else if (manual[i].text && *manual[i].text == '\t') {
			printf(".PP\n.RS 4\n.nf\n");
			man_text(manual[i].text + 1);
			printf(".fi\n.RE\n");
		} else if (manual[i].text) {
			printf("%s", manual[i].section ? "" : ".PP\n");
			man_text(manual[i].text);
		}
		if (manual[i].table)
			manual[i].table();
	}
	return EX_OK;
}

/* The option that `arg` names for this command; *value where it is given behind '='. NULL: none. */
static const struct option_desc *option_named(u32 cmd, const char *arg, const char **value)
{
	size_t len = strcspn(arg, "=");
	const struct option_desc *d;

	*value = arg[len] ? arg + len + 1 : NULL;
	for (d = options; *arg == '-' && d < options + ARRAY_SIZE(options); d++) {
		if (d->cmd != cmd && d->cmd != CMD_all)
			continue;
		if (!strncmp(arg, "--", 2) && word_is(arg + 2, len - 2, d->name))
			return d;
		if (arg[1] != '-' && d->letter && d->letter == arg[1] && len == 2)
			return d;
	}
	return NULL;
}

/*
 * Offers a word to a shell, and behind a tab what it means, where it begins with what was typed. The
 * first `kept` bytes that were typed are no part of the word, and come back before it.
 */
static void offer(const char *typed, size_t kept, const char *word, size_t len, const char *help)
{
	size_t begun = strlen(typed + kept);

	if (begun <= len && !strncmp(word, typed + kept, begun))
		printf("%.*s%.*s\t%s\n", (int)kept, typed, (int)len, word, help);
}

/* Offers the words that an option takes; in a list, behind those that are typed. */
static void offer_choices(const struct option_desc *d, const char *typed, size_t kept)
{
	const char *word, *last = strrchr(typed + kept, ',');
	bool list = false;
	size_t len;

	word = d ? option_words(d, &list) : NULL;
	if (list && last)
		kept = last + 1 - typed;
	for (; word && *word; word += len + (word[len] == '|')) {
		len = strcspn(word, "|");
		offer(typed, kept, word, len, "");
	}
}

/* Offers what may stand in place of the last of these words, which is being typed. */
static void complete(char **words)
{
	const char *typed, *before = "", *value;
	const struct option_desc *d;
	u32 cmd = CMD_run, n = 0, i;
	char name[32];

	for (; words[n + 1]; n++)
		before = words[n];
	for (i = 0; n && i < ARRAY_SIZE(commands); i++)
		if (!strcmp(words[0], commands[i].name))
			cmd = i;
	typed = strcmp(words[n], "=") ? words[n] : "";	/* bash has words end before and behind '=' */
	if (n > 1 && !strcmp(before, "="))
		before = words[n - 2];
	d = option_named(cmd, before, &value);
	if (d && d->type != OPT_FLAG) {
		offer_choices(d, typed, 0);
		return;
	}
	d = option_named(cmd, typed, &value);
	if (value) {
		offer_choices(d, typed, value - typed);
		return;
	}
	for (i = 0; !n && i < ARRAY_SIZE(commands); i++)
		offer(typed, 0, commands[i].name, strlen(commands[i].name), commands[i].help);
	for (i = 0; *typed == '-' && (d = option_next(cmd, &i)); ) {
		snprintf(name, sizeof(name), "--%s", d->name);
		offer(typed, 0, name, strlen(name), d->help);
	}
	offer_choices(n ? option_word(cmd, n - 1) : NULL, typed, 0);
}

/* `gamer completions SHELL` prints a script, which asks `gamer completions -- WORDS`. */
static int cmd_completions(void)
{
	static const char *const scripts[] = {
		"# . <(gamer completions bash), or as gamer in a folder of bash-completion\n"
		"_gamer()\n{\n"
		"\tmapfile -t COMPREPLY < <(command \"${COMP_WORDS[0]}\" completions -- \"${COMP_WORDS[@]:1:COMP_CWORD}\")\n"
		"\tCOMPREPLY=(\"${COMPREPLY[@]%%$'\\t'*}\")\n"
		"}\n"
		"complete -o default -F _gamer gamer\n",

		"#compdef gamer\n# . <(gamer completions zsh), or as _gamer in a folder of $fpath\n"
		"_gamer()\n{\n"
		"\tlocal -a offers=(\"${(@f)$(command $words[1] completions -- \"${(@)words[2,CURRENT]}\")}\")\n"
		"\toffers=(\"${(@)offers/$'\\t'/:}\")\n"
		"\tif [[ -n $offers[1] ]]; then _describe gamer offers; else _files; fi\n"
		"}\n"
		"if [[ $funcstack[1] == _gamer ]]; then _gamer \"$@\"; else compdef _gamer gamer; fi\n",

		"# gamer completions fish | source, or as gamer.fish in fish's completions\n"
		"function __gamer\n"
		"\tset -l words (commandline -opc) \"\"\n"
		"\tset words[-1] (commandline -ct)\n"
		"\tset -l offers (command $words[1] completions -- $words[2..-1])\n"
		"\tif set -q offers[1]\n\t\tstring join \\n -- $offers\n"
		"\telse\n\t\t__fish_complete_path (commandline -ct)\n\tend\n"
		"end\n"
		"complete -c gamer -f -a '(__gamer)'\n",
	};

	if (st.argv)
		complete(st.argv);
	else
		fputs(scripts[args.completions.shell], stdout);
	return EX_OK;
}

/* ======== 22. main ================================================================== */

/* Help for one command, or for all where cmd is CMD_all. */
static void help(enum command_id cmd)
{
	const struct option_desc *d;
	char left[48], text[512];
	u32 i;

	if (cmd == CMD_all) {
		printf("gamer %s: schedules the threads that make the next frame first\n\n"
		       "usage: gamer [COMMAND] [OPTION]...\n\n", GAMER_VERSION);
		for (i = 0; i < ARRAY_SIZE(commands); i++)
			printf("  %-11s %s\n", commands[i].name, commands[i].help);
		printf("\ngamer COMMAND --help shows the options of a command.\n");
		return;
	}
	printf("usage: gamer %s [OPTION]...", commands[cmd].name);
	for (i = 0; (d = option_word(cmd, i)); i++)
		printf(" [%s]", d->arg);
	printf("%s\n%s\n\n", cmd == CMD_profile ? " [-- COMMAND [ARGUMENT]...]" : "", commands[cmd].help);
	for (i = 0; (d = option_next(cmd, &i)); ) {
		snprintf(left, sizeof(left), "%c%c --%s%s%s", d->letter ? '-' : ' ',
			 d->letter ? d->letter : ' ', d->name, d->type == OPT_FLAG ? "" : " ", option_value(d));
		option_help(d, text, sizeof(text));
		printf("  %-26s %s\n", left, text);
	}
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
		die(EX_USAGE, "--%s: %s is out of bounds (%" PRId64 "..%" PRId64 ")", d->name, text, d->min, d->max);
	return n;
}

/* Index of `text` among "a|b|c". */
static u32 parse_choice(const struct option_desc *d, const char *text)
{
	const char *at = d->arg;
	u32 i;

	for (i = 0; at; i++) {
		size_t len = strcspn(at, "|");

		if (word_is(at, len, text))
			return i;
		at = at[len] ? at + len + 1 : NULL;
	}
	die(EX_USAGE, "--%s: '%s' is none of %s", d->name, text, d->arg);
}

static void parse_value(const struct option_desc *d, const char *value)
{
	if (d->type == OPT_FLAG) {
		if (value)
			die(EX_USAGE, "--%s takes no value", d->name);
		*d->to.FLAG = true;
	} else if (d->type == OPT_NUM) {
		*d->to.NUM = parse_number(d, value);
	} else if (d->type == OPT_CHOICE) {
		*d->to.CHOICE = parse_choice(d, value);
	} else {
		if ((s64)strlen(value) < d->min)
			die(EX_USAGE, "--%s needs a value", d->name);
		*d->to.STR = value;
	}
}

static void parse_options(enum command_id cmd, int argc, char **argv)
{
	const struct option_desc *d;
	const char *value;
	int i, words = 0;

	for (d = options; d < options + ARRAY_SIZE(options); d++)
		if (d->type == OPT_NUM)
			*d->to.NUM = d->def;
		else if (d->type == OPT_CHOICE)
			*d->to.CHOICE = d->def;
	for (i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--") && (cmd == CMD_profile || cmd == CMD_completions)) {
			if (i + 1 == argc)
				die(EX_USAGE, "%s: -- needs a command behind it", commands[cmd].name);
			st.argv = argv + i + 1;
			return;
		}
		if (argv[i][0] != '-' || !argv[i][1]) {
			d = option_word(cmd, words++);
			if (!d)
				die(EX_USAGE, "unexpected argument '%s' (see gamer %s --help)", argv[i],
				    commands[cmd].name);
			parse_value(d, argv[i]);
			continue;
		}
		d = option_named(cmd, argv[i], &value);
		if (!d)
			die(EX_USAGE, "unknown option '%s' for %s (see gamer %s --help)", argv[i],
			    commands[cmd].name, commands[cmd].name);
		if (d->type != OPT_FLAG && !value) {
			if (++i == argc)
				die(EX_USAGE, "--%s needs a value", d->name);
			value = argv[i];
		}
		parse_value(d, value);
	}
}

#ifndef GAMER_NO_MAIN		/* a test that includes this file has its own */
int main(int argc, char **argv)
{
	bool named = argc > 1 && argv[1][0] != '-';
	enum command_id cmd;
	int code = EX_OK;

	for (cmd = CMD_run; named && strcmp(argv[1], commands[cmd].name); )
		if (++cmd == ARRAY_SIZE(commands))
			die(EX_USAGE, "unknown command '%s' (see gamer --help)", argv[1]);
	st.epoll_fd = st.signal_fd = st.listen_fd = st.uevent_fd = st.lock_fd = -1;
	st.pid = getpid();
	std_out.fd = STDOUT_FILENO;
	st.died = cmd == CMD_run ? run_died : NULL;
	parse_options(cmd, argc - 1 - named, argv + 1 + named);
	libbpf_set_print(log_libbpf);
	signal(SIGXFSZ, SIG_IGN);	/* the write says it too */
	if (args.all.help)
		help(named ? cmd : CMD_all);
	else if (args.all.version)
		printf("gamer " GAMER_VERSION ", GPL-2.0-only\n" GAMER_LIBRARIES);
	else
		code = commands[cmd].fn();
	out_flush(&std_out);
	if ((fflush(stdout) || ferror(stdout) || std_out.failed) && !code)
		die(EX_IOERR, "cannot write to standard output: %s", strerror(std_out.failed ? : errno));
	return code;
}
#endif
