/*
 * cost: what gamer costs whom it looks at, and what telling costs it.
 *
 *   cost hooks GAMER run [ARGS]   ns a run of each of gamer's BPF programs
 *   cost events GAMER             delay of an event, CPU time of gamer, by `gamer run --observe`
 *   cost profile ROUNDS NAME=COMMAND...   what profilers cost a process
 *
 * Whatever is compared runs in turn, so that what else the machine does meets all of it alike.
 * With the kernel's statistics on, a program's time holds the cost of measuring it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/uinput.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include "bpf.h"

/* ---- common ------------------------------------------------------------------------ */

static void nap_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

/* cpu -1: any */
static void on_cpu(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	if (sched_setaffinity(tid, sizeof(set), &set))
		die("sched_setaffinity");
}

static int pipes[2][2];

static void *pong(void *arg)
{
	char c;

	while (read(pipes[0][0], &c, 1) == 1 && write(pipes[1][1], &c, 1) == 1)
		;
	return arg;
}

/* For the process's first thread: another one to pass a byte to, and have it back */
static void pair_start(void)
{
	pthread_t t;

	if (pipe2(pipes[0], O_CLOEXEC) || pipe2(pipes[1], O_CLOEXEC) || pthread_create(&t, NULL, pong, NULL))
		_exit(1);
}

static void pair_pass(void)
{
	char c = 0;

	if (write(pipes[0][1], &c, 1) != 1 || read(pipes[1][0], &c, 1) != 1)
		_exit(1);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts them */
static double percentile(double *v, int n, int percent)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n * percent / 100];
}

/* ---- hooks ------------------------------------------------------------------------- */

/*
 * Starts that gamer with one of two equal processes as its game; each passes a byte between
 * two threads and, less often, renames itself, sends UDP, asks a GPU, moves a mouse and
 * executes something. They run in turn, a fifth of a second each. Beside each program of gamer
 * run two twins on the same hook, after it: one that is empty, and one that only reads the clock.
 */
#define ROUNDS		15
#define MAX_HOOKS	64

enum { OUTSIDE, GAME, PHASES };
enum { PROGRAM, EMPTY, CLOCK, KINDS };	/* a program of gamer's, and its twins */
static struct hook {
	char name[BPF_OBJ_NAME_LEN];
	uint32_t id;				/* of gamer's program */
	int fd[KINDS];				/* programs; -1: no twin on such a hook */
	struct count at[KINDS];			/* when the phase began */
	struct count sum[KINDS][PHASES];	/* over all phases of a kind */
} hooks[MAX_HOOKS];
static int nr_hooks;

static int udp_to_itself(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(at);

	bind(fd, (void *)&at, len);
	getsockname(fd, (void *)&at, &len);
	connect(fd, (void *)&at, len);
	return fd;
}

static int mouse(void)
{
	struct uinput_setup setup = { .id.bustype = BUS_VIRTUAL, .name = "cost mouse" };
	int fd = open("/dev/uinput", O_WRONLY | O_CLOEXEC);

	ioctl(fd, UI_SET_EVBIT, EV_KEY);
	ioctl(fd, UI_SET_KEYBIT, BTN_LEFT);
	ioctl(fd, UI_SET_EVBIT, EV_REL);
	ioctl(fd, UI_SET_RELBIT, REL_X);
	ioctl(fd, UI_SET_RELBIT, REL_Y);
	ioctl(fd, UI_DEV_SETUP, &setup);
	ioctl(fd, UI_DEV_CREATE);
	return fd;
}

static void execute(void)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/proc/self/exe", "cost", "nothing", NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
}

/* A process that makes events until it is killed; it begins stopped. */
static pid_t events_start(void)
{
	struct input_event ev[2] = { { .type = EV_REL, .code = REL_X, .value = 1 },
				     { .type = EV_SYN, .code = SYN_REPORT } };
	uint64_t version[8] = { 0 };		/* struct drm_version; asks for no strings */
	int udp, gpu, input;
	pid_t pid = fork();
	char c = 0;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	on_cpu(0, 0);
	udp = udp_to_itself();
	gpu = open("/dev/dri/renderD128", O_RDWR | O_CLOEXEC);
	input = mouse();
	pair_start();
	raise(SIGSTOP);
	for (unsigned int i = 1; ; i++) {
		pair_pass();
		if (i % 16)
			continue;
		prctl(PR_SET_NAME, i % 32 ? "cost-a" : "cost-b");
		if (send(udp, &c, 1, MSG_DONTWAIT) == 1)
			recv(udp, &c, 1, MSG_DONTWAIT);
		ioctl(gpu, _IOC(_IOC_READ | _IOC_WRITE, 'd', 0, sizeof(version)), version);
		ev[0].value = -ev[0].value;
		if (write(input, ev, sizeof(ev)) < 0)
			input = -1;
		if (i % 1024 == 0)
			execute();
	}
}

/* How a program is attached; false: not by a link of its own, as a scheduler's */
static bool link_of(uint32_t prog_id, struct bpf_link_info *link)
{
	bool found = false;
	uint32_t id = 0;

	while (!found) {
		union bpf_attr attr = { .start_id = id };
		int fd;

		if (bpf(BPF_LINK_GET_NEXT_ID, &attr))
			break;
		id = attr.next_id;
		fd = fd_by_id(BPF_LINK_GET_FD_BY_ID, id);
		found = !info(fd, link, sizeof(*link)) && link->prog_id == prog_id;
		close(fd);
	}
	return found;
}

/* A twin where that program is linked, with or without a look at the clock */
static int twin_attach(int prog_fd, bool clock)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_ktime_get_ns },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct bpf_prog_info prog;
	struct bpf_link_info link;
	union bpf_attr attr;
	int fd;

	if (info(prog_fd, &prog, sizeof(prog)) || !prog.attach_btf_id || !link_of(prog.id, &link) ||
	    prog.type == BPF_PROG_TYPE_STRUCT_OPS || link.type == BPF_LINK_TYPE_ITER)
		return -1;
	attr = (union bpf_attr){
		.prog_type = prog.type, .insns = (uintptr_t)(insns + !clock), .insn_cnt = 2 + clock,
		.license = (uintptr_t)"GPL", .attach_btf_id = prog.attach_btf_id,
		.expected_attach_type = link.type == BPF_LINK_TYPE_RAW_TRACEPOINT ?
					BPF_TRACE_RAW_TP : link.tracing.attach_type,
	};
	if (link.type == BPF_LINK_TYPE_TRACING && link.tracing.target_obj_id > 1)
		attr.attach_btf_obj_fd =	/* a module */
			fd_by_id(BPF_BTF_GET_FD_BY_ID, link.tracing.target_obj_id);
	fd = bpf(BPF_PROG_LOAD, &attr);
	attr = (union bpf_attr){ .raw_tracepoint.prog_fd = fd };	/* fentry and LSM too */
	if (fd < 0 || bpf(BPF_RAW_TRACEPOINT_OPEN, &attr) < 0) {
		fprintf(stderr, "cost: no twin beside %s: %s\n", prog.name, strerror(errno));
		return -1;
	}
	return fd;
}

static bool hook_known(uint32_t id)
{
	for (int i = 0; i < nr_hooks; i++)
		if (hooks[i].id == id)
			return true;
	return false;
}

/* Adds the programs that process holds and that are not known yet; returns how many. */
static int hooks_find(pid_t pid)
{
	int before = nr_hooks;

	for (int fd = 0; fd < 256 && nr_hooks < MAX_HOOKS; fd++) {
		struct bpf_prog_info prog;
		uint32_t id, link;
		int found = held_prog(pid, fd, &id, &link);

		if (found < 0 || hook_known(id) || info(found, &prog, sizeof(prog))) {
			close(found);
			continue;
		}
		hooks[nr_hooks].id = id;
		hooks[nr_hooks].fd[PROGRAM] = found;
		memcpy(hooks[nr_hooks].name, prog.name, sizeof(prog.name));
		nr_hooks++;
	}
	return nr_hooks - before;
}

static void count_add(struct count *sum, struct count from, struct count to)
{
	sum->runs += to.runs - from.runs;
	sum->ns += to.ns - from.ns;
}

static void phase(pid_t pid, int which)
{
	kill(pid, SIGCONT);
	nap_us(20000);
	for (struct hook *h = hooks; h < hooks + nr_hooks; h++)
		for (int kind = 0; kind < KINDS; kind++)
			h->at[kind] = count(h->fd[kind]);
	nap_us(200000);
	for (struct hook *h = hooks; h < hooks + nr_hooks; h++)
		for (int kind = 0; kind < KINDS; kind++)
			count_add(&h->sum[kind][which], h->at[kind], count(h->fd[kind]));
	kill(pid, SIGSTOP);
	nap_us(20000);
}

/* Starts gamer and waits until it has attached what it attaches: nothing new for 1.5 s. */
static pid_t hooks_gamer(char **argv, int argc, pid_t game)
{
	char *args[32] = { 0 }, pid_text[16];
	pid_t pid;

	snprintf(pid_text, sizeof(pid_text), "%d", game);
	memcpy(args, argv, argc * sizeof(*argv));
	args[argc] = "--game";
	args[argc + 1] = pid_text;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		execvp(args[0], args);
		_exit(127);
	}
	for (int calm = 0; calm < 15; calm++) {
		nap_us(100000);
		if (hooks_find(pid) || !nr_hooks)
			calm = 0;
		if (waitpid(pid, NULL, WNOHANG) == pid)
			exit(1);		/* it has said why */
	}
	return pid;
}

static double mean(const struct count *c)
{
	return c->runs ? (double)c->ns / c->runs : 0;
}

static void print_ns(double ns, bool known)
{
	if (known)
		printf("%9.1f", ns);
	else
		printf("%9s", "-");
}

static bool hook_ran(const struct hook *h)
{
	return h->sum[PROGRAM][OUTSIDE].runs || h->sum[PROGRAM][GAME].runs;
}

/* Of one program: its twins, then what it costs outside the game and in the game */
static void print_hook(const struct hook *h)
{
	printf("%-16s", h->name);
	for (int kind = EMPTY; kind < KINDS; kind++) {
		struct count both = h->sum[kind][OUTSIDE];

		count_add(&both, (struct count){ 0 }, h->sum[kind][GAME]);
		print_ns(mean(&both), both.runs);
	}
	for (int which = 0; which < PHASES; which++) {
		const struct count *c = &h->sum[PROGRAM][which], *e = &h->sum[EMPTY][which];

		printf(" | %9llu", (unsigned long long)c->runs);
		print_ns(mean(c), c->runs);
		print_ns(mean(c) - mean(e), c->runs && e->runs);
	}
	printf("\n");
}

static int cost_hooks(int argc, char **argv)
{
	static char text[1 << 16];
	pid_t pid[PHASES], gamer;

	if (argc < 2 || argc > 28)
		return 64;
	for (int i = 0; i < PHASES; i++)
		pid[i] = events_start();
	nap_us(500000);
	gamer = hooks_gamer(argv, argc, pid[GAME]);
	for (int i = 0; i < nr_hooks; i++)
		for (int kind = EMPTY; kind < KINDS; kind++)
			hooks[i].fd[kind] = twin_attach(hooks[i].fd[PROGRAM], kind == CLOCK);
	if (stats_on() < 0)
		die("statistics");
	for (int i = 0; i < ROUNDS; i++)
		for (int which = 0; which < PHASES; which++)
			phase(pid[which], which);
	setvbuf(stdout, text, _IOFBF, sizeof(text));	/* whole, not mixed with what gamer says */
	printf("%-16s%9s%9s | %27s | %27s\n%-16s%9s%9s", "", "", "", "outside the game",
	       "in the game", "ns per run", "empty", "clock");
	for (int i = 0; i < PHASES; i++)
		printf(" | %9s%9s%9s", "runs", "program", "over");
	printf("\n");
	for (int i = 0; i < nr_hooks; i++)
		if (hook_ran(&hooks[i]))
			print_hook(&hooks[i]);
	printf("not run:");
	for (int i = 0; i < nr_hooks; i++)
		if (!hook_ran(&hooks[i]))
			printf(" %s", hooks[i].name);
	printf("\n");
	for (int i = 0; i < PHASES; i++)
		kill(pid[i], SIGKILL);
	kill(gamer, SIGTERM);
	waitpid(gamer, NULL, 0);
	return 0;
}

/* ---- events ------------------------------------------------------------------------ */

/*
 * The game is this program. What makes events is on CPU 0, gamer on CPU 1.
 *
 *   delay  a thread gets another name and by it another role, which is told at once: from the
 *          event until gamer has read it (its own statistics) and until a client has, beside a
 *          byte in a pipe between the same two CPUs, in turn
 *   busy   CPU time of gamer while a thread changes its CPU 8000 times a second: such events
 *          are taken in batches, as those of a mouse
 */
#define SAMPLES	10000

static const char *gamer;
static char dir[] = "/tmp/cost.XXXXXX";
static double pipe_ns[SAMPLES], client_ns[SAMPLES];
static _Atomic uint64_t lines;		/* that the client has read */
static _Atomic int pipe_read;		/* samples in pipe_ns */

/* A figure of `gamer status`; `word`: not the first but what follows that word; -1: none */
static double status(const char *key, const char *word)
{
	char command[300], line[300], name[64];
	double v = -1, first;
	FILE *f;

	snprintf(command, sizeof(command), "%s status 2>/dev/null", gamer);
	f = popen(command, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %lf", name, &first) != 2 || strcmp(name, key))
			continue;
		v = first;
		if (word)
			v = strstr(line, word) ? atof(strstr(line, word) + strlen(word)) : -1;
	}
	if (f)
		pclose(f);
	return v;
}

static pid_t events_gamer(const char *hooks)
{
	char self[16], log[64];
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		snprintf(self, sizeof(self), "%d", getppid());
		snprintf(log, sizeof(log), "%s/log", dir);
		dup2(open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
		execl(gamer, gamer, "run", "--observe", "--game", self, hooks, NULL);
		_exit(127);
	}
	for (int tries = 100; status("uptime_s", NULL) < 0; tries--) {
		if (!tries || waitpid(pid, NULL, WNOHANG) == pid) {
			errno = ETIMEDOUT;
			die("gamer");
		}
		nap_us(100000);
	}
	on_cpu(pid, 1);
	return pid;
}

static void gamer_stop(pid_t pid)
{
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
}

static uint64_t number(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Reads all that comes; the delay of single events into client_ns. Ends with its socket. */
static void *client_run(void *arg)
{
	static char buf[1 << 18];
	int fd = *(int *)arg;
	char *at, *end;
	size_t have = 0;
	uint64_t now;
	ssize_t n;

	while ((n = read(fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		now = now_ns();
		have += n;
		buf[have] = 0;
		for (at = buf; (end = strchr(at, '\n')); at = end + 1) {
			*end = 0;
			if (strstr(at, "\"event\"") && lines++ < SAMPLES)
				client_ns[lines - 1] = now - number(at, "\"at_ns\":");
		}
		have -= at - buf;
		memmove(buf, at, have);
	}
	return arg;
}

static pthread_t client;
static int client_fd;

static void client_start(const char *fields, int cpu)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char request[128], c = 0;
	int len = snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"events\"%s}\n", fields);

	client_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/gamer.sock", dir);
	if (connect(client_fd, (void *)&at, sizeof(at)) || write(client_fd, request, len) != len)
		die(at.sun_path);
	while (c != '\n' && read(client_fd, &c, 1) == 1)
		;
	lines = 0;
	on_cpu(0, cpu);		/* which the thread inherits */
	if (pthread_create(&client, NULL, client_run, &client_fd))
		die("thread");
	on_cpu(0, 0);
}

static void client_stop(void)
{
	shutdown(client_fd, SHUT_RDWR);
	pthread_join(client, NULL);
	close(client_fd);
}

/* Upper bound of the slot of gamer's histograms that it lies in, us: its figures are no finer */
static double slot_us(double ns)
{
	for (int slot = 0; slot < 64; slot++) {
		uint64_t units = slot < 4 ? slot + 1ULL : ((4 + slot % 4) + 1ULL) << (slot / 4 - 1);

		if (ns < units * 256)
			return units * 0.256;
	}
	return 0;
}

/* One event: the other of two names whose roles differ */
static void rename_once(void)
{
	static int which;

	prctl(PR_SET_NAME, ++which & 1 ? "PhysX" : "dxvk-submit");
}

static void *pipe_run(void *arg)
{
	uint64_t sent;

	while (read(pipes[0][0], &sent, sizeof(sent)) == sizeof(sent)) {
		pipe_ns[pipe_read] = now_ns() - sent;
		pipe_read++;
	}
	return arg;
}

static void events_delay(void)
{
	uint32_t n = SAMPLES, i;
	pthread_t reader;
	double p50, p99;
	uint64_t now;

	if (pipe(pipes[0]))
		die("pipe");
	on_cpu(0, 1);
	pthread_create(&reader, NULL, pipe_run, NULL);
	on_cpu(0, 0);
	client_start(",\"types\":\"classification\"", 0);
	for (i = 0; i < n; i++) {
		rename_once();
		nap_us(400);
		now = now_ns();
		if (write(pipes[0][1], &now, sizeof(now)) != sizeof(now))
			die("pipe");
		nap_us(400);
	}
	nap_us(200000);
	printf("delay, us, of %u each          p50      p99   as gamer's histogram has it\n", n);
	p50 = percentile(pipe_ns, n, 50), p99 = percentile(pipe_ns, n, 99);
	printf("  pipe, CPU 0 to 1       %8.1f %8.1f   %8.1f %8.1f\n", p50 / 1e3, p99 / 1e3, slot_us(p50), slot_us(p99));
	printf("  event to gamer                             %8.1f %8.1f   (%.0f events)\n",
	       status("event_delay", "p50 "), status("event_delay", "p99 "), status("event_delay", NULL));
	if (lines != n)
		printf("  (a client was told of %llu)\n", (unsigned long long)lines);
	n = lines < n ? lines : n;
	if (n)
		printf("  event to client        %8.1f %8.1f\n", percentile(client_ns, n, 50) / 1e3,
		       percentile(client_ns, n, 99) / 1e3);
	client_stop();
	close(pipes[0][1]);
	pthread_join(reader, NULL);
}

static atomic_bool over;
static _Atomic uint64_t moves;

static void *mover(void *arg)
{
	uint64_t next = now_ns();
	struct timespec at;

	for (int i = 0; !over; i++) {
		on_cpu(0, i & 1);
		moves++;
		next += 1000000000 / 8000;
		at = (struct timespec){ next / 1000000000, next % 1000000000 };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	}
	return arg;
}

static void events_busy(void)
{
	pthread_t t;

	pthread_create(&t, NULL, mover, NULL);
	nap_us(1000000);
	for (int heard = 0; heard < 2; heard++) {
		double cpu, read;
		uint64_t from, start;

		if (heard)
			client_start("", -1);
		cpu = status("cpu_us", NULL), read = status("events_read.migration", NULL);
		from = moves, start = now_ns();
		nap_us(10000000);
		cpu = status("cpu_us", NULL) - cpu;
		read = status("events_read.migration", NULL) - (read < 0 ? 0 : read);
		printf("busy, %s: %.3f %% of a CPU; %.0f moves a second, %.0f told\n",
		       heard ? "a client that takes all" : "nobody",
		       cpu / ((now_ns() - start) / 1e5), (moves - from) * 1e9 / (now_ns() - start),
		       heard ? read / ((now_ns() - start) / 1e9) : 0);
		if (heard) {
			printf("  lost %.0f, allocations %.0f, resident %.0f KB\n", status("events_lost.migration", NULL) < 0 ?
			       0 : status("events_lost.migration", NULL), status("allocations_after_attach", NULL),
			       status("rss_kb", NULL));
			client_stop();
		}
	}
	over = 1;
	pthread_join(t, NULL);
}

static int cost_events(int argc, char **argv)
{
	pid_t pid;

	if (argc != 1 || !mkdtemp(dir))
		return 64;
	gamer = argv[0];
	setenv("RUNTIME_DIRECTORY", dir, 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	on_cpu(0, 0);
	/* By its pattern the thread would have a role that is stronger than its name's. */
	pid = events_gamer("--hooks=-runtime");
	events_delay();
	gamer_stop(pid);
	pid = events_gamer("--hooks=+runtime");
	events_busy();
	gamer_stop(pid);
	return 0;
}

/* ---- profile ----------------------------------------------------------------------- */

/*
 * Two threads on one CPU pass a byte back and forth: two switches and four system calls a
 * round. Every command runs by a shell while they do, with %p as their process, and in turn
 * with nothing. What counts is the CPU time of a round, the median over all rounds; then, with
 * the kernel's statistics on, the time in the command's BPF programs.
 */
#define MAX_TOOLS	16
#define MAX_ROUNDS	64
#define MAX_PROGS	64

static volatile uint64_t *rounds;	/* of the two threads so far; shared */
static clockid_t clock_of;		/* their CPU time */

struct tool {
	const char *name, *command;
	double ns[MAX_ROUNDS], bpf_ns[MAX_ROUNDS];	/* per round */
} tools[MAX_TOOLS] = { { .name = "nothing" } };
static int nr_tools = 1;

static pid_t pair_process(void)
{
	pid_t pid;

	rounds = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	on_cpu(0, sysconf(_SC_NPROCESSORS_ONLN) - 1);
	pair_start();
	for (;; ++*rounds)
		pair_pass();
}

static double cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(clock_of, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

/* CPU time of a round, over `ms` */
static double measure(int ms)
{
	uint64_t n = *rounds;
	double from = cpu_ns();

	nap_us(ms * 1000L);
	return (cpu_ns() - from) / (*rounds - n);
}

/* Programs that a process holds and has attached; their descriptors to fds. */
static int programs(pid_t pid, int *fds)
{
	uint32_t id, link;
	int n = 0, links = 0;

	for (int fd = 0; fd < 256; fd++) {
		int found = held_prog(pid, fd, &id, &link);

		links += link > 0;
		if (found >= 0 && !link && n < MAX_PROGS)
			fds[n++] = found;
		else if (found >= 0)
			close(found);
	}
	return links ? n : 0;
}

static pid_t tool_start(const struct tool *t, pid_t pid)
{
	char command[1024], *to = command;
	const char *at;
	pid_t child;

	for (at = t->command; *at && to < command + sizeof(command) - 16; at++)
		if (at[0] == '%' && at[1] == 'p')
			to += sprintf(to, "%d", pid), at++;
		else
			*to++ = *at;
	*to = 0;
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!freopen("/dev/null", "w", stdout))
			_exit(1);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return child;
}

static double programs_ns(const int *fds, int n)
{
	double sum = 0;

	while (n--)
		sum += count(fds[n]).ns;
	return sum;
}

static int round_of(struct tool *t, int round, pid_t pid)
{
	int fds[MAX_PROGS], n = 0, stats, i;
	pid_t child = t->command ? tool_start(t, pid) : 0;
	double from;
	uint64_t at;

	for (i = 0; child && i < 300 && !n; i++) {
		nap_us(100000);
		n = programs(child, fds);
		if (waitpid(child, NULL, WNOHANG) == child)
			break;
	}
	if (child && !n) {
		fprintf(stderr, "cost: %s attaches nothing\n", t->name);
		kill(child, SIGKILL);
		return -1;
	}
	nap_us(500000);
	t->ns[round] = measure(1000);
	stats = stats_on();
	nap_us(50000);
	from = programs_ns(fds, n);
	at = *rounds;
	nap_us(300000);
	t->bpf_ns[round] = (programs_ns(fds, n) - from) / (*rounds - at);
	close(stats);
	while (n)
		close(fds[--n]);
	if (!child)
		return 0;
	kill(child, SIGINT);
	for (i = 0; i < 200 && !waitpid(child, NULL, WNOHANG); i++)
		nap_us(50000);
	kill(child, SIGKILL);
	return 0;
}

static int cost_profile(int argc, char **argv)
{
	int n = argc ? atoi(argv[0]) : 0, i, k;
	double nothing = 0;
	pid_t pid;

	for (i = 1; i < argc && nr_tools < MAX_TOOLS; i++) {
		tools[nr_tools].name = strtok(argv[i], "=");
		tools[nr_tools++].command = strtok(NULL, "");
	}
	if (n < 1 || n > MAX_ROUNDS || nr_tools < 2)
		return 64;
	pid = pair_process();
	nap_us(200000);
	clock_getcpuclockid(pid, &clock_of);
	for (i = 0; i < n; i++)
		for (k = 0; k < nr_tools; k++)
			if (round_of(&tools[k], i, pid))
				return 1;
	kill(pid, SIGKILL);
	printf("%-22s %12s %12s %12s\n", "CPU ns per round", "median", "added", "in BPF");
	for (k = 0; k < nr_tools; k++) {
		double ns = percentile(tools[k].ns, n, 50);

		nothing = k ? nothing : ns;
		printf("%-22s %12.0f %12.0f %12.0f\n", tools[k].name, ns, ns - nothing,
		       percentile(tools[k].bpf_ns, n, 50));
	}
	return 0;
}

/* ------------------------------------------------------------------------------------ */

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	int rc = 64;

	if (!strcmp(verb, "nothing"))
		return 0;		/* what the events of hooks execute */
	if (!strcmp(verb, "hooks"))
		rc = cost_hooks(argc - 2, argv + 2);
	else if (!strcmp(verb, "events"))
		rc = cost_events(argc - 2, argv + 2);
	else if (!strcmp(verb, "profile"))
		rc = cost_profile(argc - 2, argv + 2);
	if (rc == 64)
		fprintf(stderr, "usage: cost hooks GAMER run [ARGS] | events GAMER | profile ROUNDS NAME=COMMAND...\n");
	return rc;
}
