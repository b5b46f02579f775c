/*
 * fair: what the fair back end does to threads.
 *
 * fair game THREADS: a process with so many plain threads, and one each that chose something for itself:
 *	nice, slice, fifo, idle, batch. A line `spawn N` on standard input starts N more at once, `short`
 *	makes one more that ends by itself, `pulse` one that works for 100 us each 1 ms and is called
 *	AudioThread, until `spin` makes it work without a pause for 3 s, `fork` starts a child, and `show N` connects
 *	to display N, and `talk` makes one, called talker, that works for 3 ms each 16 ms and sends a packet then; each is answered by `done` and its number. Ends with its input.
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
#include <sys/resource.h>
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

static void set(int policy, int nice, int priority, uint64_t slice_ns)
{
	struct attr a = { .size = sizeof(a), .policy = policy, .nice = nice, .priority = priority,
			  .runtime = slice_ns };

	if (syscall(SYS_sched_setattr, 0, &a, 0))
		perror("sched_setattr");
}

static const char *const chosen[] = { "nice", "slice", "fifo", "idle", "batch" };
static pthread_barrier_t ready;

static void *thread(void *name)
{
	prctl(PR_SET_NAME, name);
	if (!strcmp(name, "nice"))
		set(SCHED_OTHER, 3, 0, 0);
	else if (!strcmp(name, "slice"))
		set(SCHED_OTHER, 0, 0, 2000000);
	else if (!strcmp(name, "fifo"))
		set(SCHED_FIFO, 0, 1, 0);
	else if (!strcmp(name, "idle"))
		set(SCHED_IDLE, 0, 0, 0);
	else if (!strcmp(name, "batch"))
		set(SCHED_BATCH, 0, 0, 0);
	pthread_barrier_wait(&ready);
	while (pause())
		;
	return name;
}

/* Starts n threads of that name and waits until all run. */
static void spawn(int n, const char *name)
{
	pthread_attr_t attr;
	pthread_t t;
	int i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 16384);
	pthread_barrier_init(&ready, NULL, n + 1);
	for (i = 0; i < n; i++)
		if (pthread_create(&t, &attr, thread, (void *)name)) {
			perror("pthread_create");
			exit(1);
		}
	pthread_barrier_wait(&ready);
}

static volatile int spins;

static void *pulse(void *unused)
{
	struct timespec now, next;
	long work;

	prctl(PR_SET_NAME, "AudioThread");
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;; spins = 0) {
		next.tv_nsec += 1000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		clock_gettime(CLOCK_MONOTONIC, &next);
		do {
			clock_gettime(CLOCK_MONOTONIC, &now);
			work = (now.tv_sec - next.tv_sec) * 1000000 + (now.tv_nsec - next.tv_nsec) / 1000;
		} while (work < (spins ? 3000000 : 50));
	}
	return unused;
}

/* A frame's work and a packet with each, which nobody takes */
static void *talk(void *unused)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct timespec next, now;

	prctl(PR_SET_NAME, "talker");
	for (;;) {
		usleep(13000);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &next);
		do
			clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
		while ((now.tv_sec - next.tv_sec) * 1000000 + (now.tv_nsec - next.tv_nsec) / 1000 < 3000);
		sendto(fd, "", 1, 0, (struct sockaddr *)&to, sizeof(to));
	}
	return unused;
}

static void *briefly(void *unused)
{
	usleep(1000);
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

	for (i = 0; i < sizeof(chosen) / sizeof(chosen[0]); i++)
		spawn(1, chosen[i]);
	spawn(threads, "plain");
	printf("ready %d\n", getpid());
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		n = 0;
		if (sscanf(line, "spawn %d", &n) == 1) {
			spawn(n, "plain");
		} else if (!strncmp(line, "short", 5)) {
			pthread_create(&t, NULL, briefly, NULL);
			pthread_join(t, NULL);
		} else if (!strncmp(line, "pulse", 5)) {
			pthread_create(&t, NULL, pulse, NULL);
		} else if (!strncmp(line, "spin", 4)) {
			spins = 1;
		} else if (!strncmp(line, "talk", 4)) {
			pthread_create(&t, NULL, talk, NULL);
		} else if (sscanf(line, "show %d", &n) == 1) {
			display(n, connect);
		} else if (!strncmp(line, "fork", 4)) {
			n = fork();
			if (!n)
				prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (!n)
				pause();
		}
		printf("done %d\n", n);
		fflush(stdout);
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
	if (argc == 3 && !strcmp(argv[1], "game"))
		game(atoi(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "display"))
		for (display(atoi(argv[2]), bind); puts("ready"), fflush(stdout), 1; pause())
			;
	else if (argc >= 2 && !strcmp(argv[1], "sweep"))
		sweep(argc > 2 ? atoi(argv[2]) : 0);
	else
		return 64;
	return 0;
}
