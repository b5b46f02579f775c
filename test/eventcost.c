/*
 * eventcost GAMER: what telling costs on this machine, by `gamer run --observe` whose game
 * is this program. Its producer is on CPU 0, gamer on CPU 1.
 *
 *   delay  a thread gets another name and by it another role, which is told at once: from the
 *          event until gamer has read it (its own statistics) and until a client has, beside a
 *          byte in a pipe between the same two CPUs, in turn
 *   cost   what the BPF program takes for that, with and without somebody who listens
 *   rate   how many a second, until the first finds the ring full
 *   busy   CPU time of gamer while a thread changes its CPU 8000 times a second: such events
 *          are taken in batches, as those of a mouse
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include "bpf.h"

#define SAMPLES	10000

static const char *gamer;
static char dir[] = "/tmp/eventcost.XXXXXX";
static uint32_t pipe_ns[SAMPLES], client_ns[SAMPLES];
static _Atomic uint64_t lines, lost;	/* that the client has read */
static _Atomic int pipe_read;		/* samples in pipe_ns */

static void nap_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

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

/* ---- gamer ------------------------------------------------------------------------- */

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

static pid_t gamer_start(const char *hooks)
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
			fprintf(stderr, "eventcost: gamer does not start\n");
			exit(1);
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

/* The program of that name which this process holds */
static int prog_of(pid_t pid, const char *name)
{
	for (int fd = 0; fd < 256; fd++) {
		struct bpf_prog_info prog;
		uint32_t id, link;
		int found = held_prog(pid, fd, &id, &link);

		if (found >= 0 && !info(found, &prog, sizeof(prog)) && !strncmp(prog.name, name, sizeof(prog.name) - 1))
			return found;
		close(found);
	}
	return -1;
}

/* ---- a client ---------------------------------------------------------------------- */

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
			if (strstr(at, "\"lost\"")) {
				lost += number(at, "\"count\":");
			} else if (strstr(at, "\"event\"")) {
				uint64_t i = lines++;

				if (i < SAMPLES)
					client_ns[i] = now - number(at, "\"at_ns\":");
			}
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
	lines = lost = 0;
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

/* ---- figures ----------------------------------------------------------------------- */

static int cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Upper bound of the slot of gamer's histograms that it lies in, us: its figures are no finer */
static double slot_us(uint32_t ns)
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

static int pipes[2];

static void *pipe_run(void *arg)
{
	uint64_t sent;

	while (read(pipes[0], &sent, sizeof(sent)) == sizeof(sent)) {
		pipe_ns[pipe_read] = now_ns() - sent;
		pipe_read++;
	}
	return arg;
}

static void delay(void)
{
	uint32_t n = SAMPLES, i;
	pthread_t reader;
	uint64_t now;

	if (pipe(pipes))
		die("pipe");
	on_cpu(0, 1);
	pthread_create(&reader, NULL, pipe_run, NULL);
	on_cpu(0, 0);
	client_start(",\"types\":\"classification\"", 0);
	for (i = 0; i < n; i++) {
		rename_once();
		nap_us(400);
		now = now_ns();
		if (write(pipes[1], &now, sizeof(now)) != sizeof(now))
			die("pipe");
		nap_us(400);
	}
	nap_us(200000);
	printf("delay, us, of %u each          p50      p99   as gamer's histogram has it\n", n);
	qsort(pipe_ns, n, sizeof(*pipe_ns), cmp);
	printf("  pipe, CPU 0 to 1       %8.1f %8.1f   %8.1f %8.1f\n", pipe_ns[n / 2] / 1e3,
	       pipe_ns[n * 99 / 100] / 1e3, slot_us(pipe_ns[n / 2]), slot_us(pipe_ns[n * 99 / 100]));
	printf("  event to gamer                             %8.1f %8.1f   (%.0f events)\n",
	       status("event_delay", "p50 "), status("event_delay", "p99 "), status("event_delay", NULL));
	if (lines != n)
		printf("  (a client was told of %llu)\n", (unsigned long long)lines);
	n = lines < n ? lines : n;
	qsort(client_ns, n, sizeof(*client_ns), cmp);
	if (n)
		printf("  event to client        %8.1f %8.1f\n", client_ns[n / 2] / 1e3, client_ns[n * 99 / 100] / 1e3);
	client_stop();
	close(pipes[1]);
	pthread_join(reader, NULL);
}

#define COST_RUNS	1500	/* that fit into the ring */

/* With nobody who listens; with one who sleeps until he is woken; with one who is behind. */
enum { NOBODY, WOKEN, BEHIND, HOW };

static void cost(pid_t pid)
{
	int prog = prog_of(pid, "name_changed");
	struct count sum[HOW] = { 0 }, from;
	double ns[HOW];

	if (prog < 0 || stats_on() < 0)
		die("statistics of name_changed");
	for (int round = 0; round < 8 * HOW; round++) {
		int how = round % HOW;

		if (how != NOBODY)
			client_start(",\"types\":\"classification\"", 0);
		nap_us(20000);
		if (how == BEHIND)
			kill(pid, SIGSTOP);
		from = count(prog);
		for (int i = 0; i < COST_RUNS; i++) {
			rename_once();
			if (how == WOKEN)
				nap_us(100);
		}
		sum[how].runs += count(prog).runs - from.runs;
		sum[how].ns += count(prog).ns - from.ns;
		kill(pid, SIGCONT);
		if (how != NOBODY)
			client_stop();
		ns[how] = (double)sum[how].ns / sum[how].runs;
	}
	printf("cost, ns a run of name_changed: %.0f with nobody; an event more: %.0f, and %.0f if it wakes\n",
	       ns[NOBODY], ns[BEHIND] - ns[NOBODY], ns[WOKEN] - ns[NOBODY]);
}

static void rate(void)
{
	static const int rates[] = { 20000, 50000, 100000, 150000, 200000, 300000, 400000, 600000, 1000000, 0 };
	const int *r;

	printf("rate, events a second for 1 s:\n");
	for (r = rates; *r; r++) {
		uint64_t start, last, took;
		int i = 0;

		client_start(",\"types\":\"classification\"", -1);
		nap_us(50000);
		start = now_ns();
		for (i = 0; now_ns() - start < 1000000000; i++) {
			while (now_ns() - start < i * 1000000000ULL / *r)
				;
			rename_once();
		}
		took = now_ns() - start;
		do {
			last = lines + lost;
			nap_us(200000);
		} while (lines + lost != last);
		printf("  wanted %7d, made %7.0f: read %llu, lost %llu%s\n", *r, i * 1e9 / took,
		       (unsigned long long)lines, (unsigned long long)lost,
		       lines + lost == (uint64_t)i ? "" : ", the client was dropped");
		client_stop();
		if (lines != (uint64_t)i)
			break;
	}
}

static atomic_bool over;
static _Atomic uint64_t moves;

static void *mover(void *arg)
{
	uint64_t next = now_ns();
	struct timespec at;
	cpu_set_t set;

	for (int i = 0; !over; i++) {
		CPU_ZERO(&set);
		CPU_SET(i & 1, &set);
		sched_setaffinity(0, sizeof(set), &set);
		moves++;
		next += 1000000000 / 8000;
		at = (struct timespec){ next / 1000000000, next % 1000000000 };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	}
	return arg;
}

static void busy(void)
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

int main(int argc, char **argv)
{
	pid_t pid;

	if (argc != 2 || !mkdtemp(dir)) {
		fprintf(stderr, "usage: eventcost GAMER\n");
		return 64;
	}
	gamer = argv[1];
	setenv("RUNTIME_DIRECTORY", dir, 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	on_cpu(0, 0);
	/* By its pattern the thread would have a role that is stronger than its name's. */
	pid = gamer_start("--hooks=-runtime");
	delay();
	cost(pid);
	rate();
	gamer_stop(pid);
	pid = gamer_start("--hooks=+runtime");
	busy();
	gamer_stop(pid);
	return 0;
}
