/*
 * profcost ROUNDS NAME=COMMAND...: what profilers cost those whom they look at.
 *
 * Two threads on one CPU pass a byte back and forth: two switches and four system calls a
 * round. Every command runs by a shell while they do, with %p as their process, and in turn
 * with nothing, so that whatever else the machine does meets all alike. What counts is the
 * CPU time of a round, the median over all rounds; then, with the kernel's statistics on, the
 * time in the command's BPF programs.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include "bpf.h"

#define MAX_TOOLS	16
#define MAX_ROUNDS	64
#define MAX_PROGS	64

static volatile uint64_t *rounds;	/* of the two threads so far; shared */
static int pipes[2][2];
static clockid_t clock_of;		/* their CPU time */

struct tool {
	const char *name, *command;
	double ns[MAX_ROUNDS], bpf_ns[MAX_ROUNDS];	/* per round */
} tools[MAX_TOOLS] = { { .name = "nothing" } };
static int nr_tools = 1;

static void nap(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static void *pong(void *arg)
{
	char c;

	while (read(pipes[0][0], &c, 1) == 1 && write(pipes[1][1], &c, 1) == 1)
		;
	return arg;
}

static pid_t start(void)
{
	cpu_set_t set;
	pthread_t t;
	pid_t pid;
	char c = 0;

	rounds = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&set);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	sched_setaffinity(0, sizeof(set), &set);
	if (pipe(pipes[0]) || pipe(pipes[1]) || pthread_create(&t, NULL, pong, NULL))
		_exit(1);
	for (;; ++*rounds)
		if (write(pipes[0][1], &c, 1) != 1 || read(pipes[1][0], &c, 1) != 1)
			_exit(1);
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

	nap(ms);
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
		nap(100);
		n = programs(child, fds);
		if (waitpid(child, NULL, WNOHANG) == child)
			break;
	}
	if (child && !n) {
		fprintf(stderr, "profcost: %s attaches nothing\n", t->name);
		kill(child, SIGKILL);
		return -1;
	}
	nap(500);
	t->ns[round] = measure(1000);
	stats = stats_on();
	nap(50);
	from = programs_ns(fds, n);
	at = *rounds;
	nap(300);
	t->bpf_ns[round] = (programs_ns(fds, n) - from) / (*rounds - at);
	close(stats);
	while (n)
		close(fds[--n]);
	if (!child)
		return 0;
	kill(child, SIGINT);
	for (i = 0; i < 200 && !waitpid(child, NULL, WNOHANG); i++)
		nap(50);
	kill(child, SIGKILL);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 0, i, k;
	double nothing = 0;
	pid_t pid;

	for (i = 2; i < argc && nr_tools < MAX_TOOLS; i++) {
		tools[nr_tools].name = strtok(argv[i], "=");
		tools[nr_tools++].command = strtok(NULL, "");
	}
	if (n < 1 || n > MAX_ROUNDS || nr_tools < 2)
		return 64;
	pid = start();
	nap(200);
	clock_getcpuclockid(pid, &clock_of);
	for (i = 0; i < n; i++)
		for (k = 0; k < nr_tools; k++)
			if (round_of(&tools[k], i, pid))
				return 1;
	kill(pid, SIGKILL);
	printf("%-22s %12s %12s %12s\n", "CPU ns per round", "median", "added", "in BPF");
	for (k = 0; k < nr_tools; k++) {
		double ns = median(tools[k].ns, n);

		nothing = k ? nothing : ns;
		printf("%-22s %12.0f %12.0f %12.0f\n", tools[k].name, ns, ns - nothing,
		       median(tools[k].bpf_ns, n));
	}
	return 0;
}
