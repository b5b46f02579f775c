/*
 * cost GAMER run [ARGS]: ns a run of each of gamer's BPF programs.
 *
 * Whatever is compared runs in turn, so that what else the machine does meets all of it alike.
 * With the kernel's statistics on, a program's time holds the cost of measuring it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "bpf.h"

static void nap_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

static void on_cpu_0(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
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
	struct drm_version version = { 0 };	/* asks for no strings */
	int udp, gpu, input;
	pid_t pid = fork();
	char c = 0;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	on_cpu_0();
	udp = udp_to_itself();
	gpu = open("/dev/dri/renderD128", O_RDWR | O_CLOEXEC);
	input = mouse_make("cost mouse");
	pair_start();
	raise(SIGSTOP);
	for (unsigned int i = 1; ; i++) {
		pair_pass();
		if (i % 16)
			continue;
		prctl(PR_SET_NAME, i % 32 ? "cost-a" : "cost-b");
		if (send(udp, &c, 1, MSG_DONTWAIT) == 1)
			recv(udp, &c, 1, MSG_DONTWAIT);
		ioctl(gpu, DRM_VERSION, &version);
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
		uint32_t id;
		int found = held_prog(pid, fd, &id);

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

static void cost_hooks(int argc, char **argv)
{
	static char text[1 << 16];
	pid_t pid[PHASES], gamer;

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
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;		/* what the events execute */
	if (argc < 3 || argc > 29) {
		fprintf(stderr, "usage: cost GAMER run [ARGS]\n");
		return 64;
	}
	cost_hooks(argc - 1, argv + 1);
	return 0;
}
