/*
 * fair: what the fair back end does to threads.
 *
 * fair game THREADS: a process with so many plain threads, and one each that chose something for itself:
 *	nice, slice, fifo, idle, batch. A line `spawn N` on standard input starts N more at once, `pulse` one that
 *	works for 50 us each 1 ms and is called AudioThread, until `spin` makes it work without a pause for 3 s,
 *	`load N` starts N called loader that work without a pause, `fork` starts a child, `show N` connects to display N, and `talk` makes one, called talker, that works for 3 ms each
 *	16 ms and sends a packet then; each is answered by `done` and its number. Ends with its input.
 * fair display N: serves an X display of that number, whatever its own name.
 * fair sweep [PID]: a line for each thread (of that process): pid, tid, start, policy, nice, real-time
 *	priority, reset on fork, slice in us (0: the kernel's own), name.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "helper.h"

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static int get(int tid, struct attr *a)
{
	return syscall(SYS_sched_getattr, tid, a, sizeof(*a), 0);
}

/* The kinds of threads, by name, and what each chooses for itself; the last one, nothing. */
static const struct kind {
	const char *name;
	struct attr own;
} kinds[] = {
	{ "nice", { .policy = SCHED_OTHER, .nice = 3 } },
	{ "slice", { .policy = SCHED_OTHER, .runtime = 2000000 } },
	{ "fifo", { .policy = SCHED_FIFO, .priority = 1 } },
	{ "idle", { .policy = SCHED_IDLE } },
	{ "batch", { .policy = SCHED_BATCH } },
	{ "plain", { 0 } },
};
#define PLAIN (sizeof(kinds) / sizeof(kinds[0]) - 1)

static pthread_barrier_t ready;

static void *thread(void *arg)
{
	const struct kind *k = arg;
	struct attr own = k->own;

	prctl(PR_SET_NAME, k->name);
	own.size = sizeof(own);
	if (k != &kinds[PLAIN] && syscall(SYS_sched_setattr, 0, &own, 0))
		perror("sched_setattr");
	pthread_barrier_wait(&ready);
	while (pause())
		;
	return arg;
}

/* Starts n threads of that kind and waits until all run. */
static void spawn(int n, const struct kind *k)
{
	pthread_attr_t attr;
	pthread_t t;
	int i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 16384);
	pthread_barrier_init(&ready, NULL, n + 1);
	for (i = 0; i < n; i++)
		if (pthread_create(&t, &attr, thread, (void *)k))
			die("pthread_create");
	pthread_barrier_wait(&ready);
}

static volatile int spins;

static void *pulse(void *unused)
{
	uint64_t next = now_ns();

	prctl(PR_SET_NAME, "AudioThread");
	for (;; spins = 0) {
		struct timespec at = { (next += 1000000) / 1000000000, next % 1000000000 };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		for (next = now_ns(); now_ns() - next < (spins ? 3000000000ULL : 50000);)
			;
	}
	return unused;
}

static void *loader(void *unused)
{
	prctl(PR_SET_NAME, "loader");
	for (volatile unsigned int i = 0;; i++)
		;
	return unused;
}

/* A frame's work and a packet with each, which nobody takes */
static void *talk(void *unused)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t from;

	prctl(PR_SET_NAME, "talker");
	for (;;) {
		usleep(13000);
		for (from = clock_ns(CLOCK_THREAD_CPUTIME_ID); clock_ns(CLOCK_THREAD_CPUTIME_ID) - from < 3000000;)
			;
		sendto(fd, "", 1, 0, (struct sockaddr *)&to, sizeof(to));
	}
	return unused;
}

/* A socket at an X display's abstract address: it listens there, or is connected. */
static void display(int number, int (*call)(int, const struct sockaddr *, socklen_t))
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (display_socket(fd, number, call) || (call == bind && listen(fd, 8)))
		die("display");
}

static void game(int threads)
{
	pthread_t t;
	char line[64];
	size_t i;
	int n;

	for (i = 0; i < PLAIN; i++)
		spawn(1, &kinds[i]);
	spawn(threads, &kinds[PLAIN]);
	printf("ready %d\n", getpid());
	while (fgets(line, sizeof(line), stdin)) {
		n = 0;
		if (sscanf(line, "spawn %d", &n) == 1)
			spawn(n, &kinds[PLAIN]);
		else if (sscanf(line, "load %d", &n) == 1)
			for (i = 0; i < (size_t)n; i++)
				pthread_create(&t, NULL, loader, NULL);
		else if (sscanf(line, "show %d", &n) == 1)
			display(n, connect);
		else if (!strcmp(line, "pulse\n"))
			pthread_create(&t, NULL, pulse, NULL);
		else if (!strcmp(line, "talk\n"))
			pthread_create(&t, NULL, talk, NULL);
		else if (!strcmp(line, "spin\n"))
			spins = 1;
		else if (!strcmp(line, "fork\n") && !(n = fork()))
			for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
				pause();
		printf("done %d\n", n);
	}
}

/* Field 22 of stat */
static unsigned long long start_of(int pid, int tid, char name[32])
{
	char path[64], line[1024] = "", *at, *from;
	FILE *f;
	int i;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	at = strrchr(line, ')');
	from = strchr(line, '(');
	if (!at || !from)
		return 0;
	snprintf(name, 32, "%.*s", (int)(at - from - 1), from + 1);
	for (i = 2; at && i < 22; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static void sweep(int only)
{
	struct attr own = { 0 }, a;
	struct dirent *p, *t;
	unsigned long long start;
	char path[64], name[32];
	DIR *procs = opendir("/proc"), *threads;
	int pid, tid;

	get(0, &own);
	while (procs && (p = readdir(procs))) {
		pid = atoi(p->d_name);
		if (pid <= 0 || (only && pid != only))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task", pid);
		threads = opendir(path);
		while (threads && (t = readdir(threads))) {
			tid = atoi(t->d_name);
			memset(&a, 0, sizeof(a));
			start = tid > 0 ? start_of(pid, tid, name) : 0;
			if (!start || get(tid, &a))
				continue;
			printf("%d %d %llu %u %d %u %llu %llu %s\n", pid, tid, start, a.policy, a.nice, a.priority,
			       (unsigned long long)a.flags & 1,
			       (unsigned long long)(a.runtime == own.runtime || a.policy == SCHED_DEADLINE ? 0 :
						    a.runtime / 1000), name);
		}
		if (threads)
			closedir(threads);
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 3 && !strcmp(argv[1], "game"))
		game(atoi(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "display"))
		for (display(atoi(argv[2]), bind); puts("ready") >= 0; pause())
			;
	else if (argc >= 2 && !strcmp(argv[1], "sweep"))
		sweep(argc > 2 ? atoi(argv[2]) : 0);
	else
		return 64;
	return 0;
}
