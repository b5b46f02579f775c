/*
 * profiled MODE [ARG]: does what the checks of `gamer profile` know the answer to, and prints
 * what it did and how long it took by its own clock, as "NAME NUMBER" lines.
 *
 *   sleeps          20 times 50 ms
 *   pipe [N]        20 times, or N, blocked on a pipe, in block_on_pipe(), fed by a child
 *   mangled         the same, below functions of C++ and Rust, one of them with a name that has no end
 *   hostile         sleeps below a function whose name takes a demangler hours, then as sleeps does
 *   library FILE    the same, below block_in_library() of a shared object
 *   futex           200 waits that block, between two threads
 *   calls           every category of system calls, each another number of times
 *   forks [N]       50 children, or N, 10 calls each
 *   execs           executes itself 5 times, 10 calls each; 2 of these as children that end early
 *   threads N       N threads that sleep at once
 *   jit [DLL [N]]   blocked in code that it wrote itself, named in /tmp/perf-PID.map; with a
 *                   file: not named, and behind the mapping of that
 *   spin            uses the CPU until killed
 *   rusage CMD...   runs it, and prints the kernel's figures of it and its children
 *   starts          20 threads that use a CPU for 1 ms each, on the same one: how long they waited
 *   pingpong        two threads wake each other 20000 times
 *   frames          sleeps with a frame pointer that leads in a circle, on its stack, then outside
 * With LIBRARY defined it is that shared object.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "helper.h"

#ifdef LIBRARY
__attribute__((noinline)) static int library_reads(int fd)
{
	char c;
	int n = read(fd, &c, 1);

	__asm__ volatile("");		/* no tail call: the frame stays */
	return n;
}

__attribute__((noinline)) int block_in_library(int fd)
{
	int n = library_reads(fd);

	__asm__ volatile("");
	return n;
}
#else

#define CALLS(X)			\
	X(lseek, -1, 0, 0, 101)		\
	X(mincore, 1, 0, 0, 102)	\
	X(getpriority, 0, 0, 0, 103)	\
	X(getsockname, -1, 0, 0, 104)	\
	X(clock_getres, 0, 0, 0, 105)	\
	X(shmctl, -1, 0, 0, 106)	\
	X(getresuid, 0, 0, 0, 107)	\
	X(rt_sigpending, 0, 8, 0, 108)	\
	X(sysinfo, 0, 0, 0, 109)

static void nap_ms(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static void told(const char *name, uint64_t n)
{
	printf("%s %llu\n", name, (unsigned long long)n);
}

static void sleeps(void)
{
	uint64_t from, sum = 0;

	for (int i = 0; i < 20; i++) {
		from = now_ns();
		nap_ms(50);
		sum += now_ns() - from;
	}
	told("ns", sum);
}

__attribute__((noinline)) int block_on_pipe(int fd)
{
	char c;
	int n = read(fd, &c, 1);

	__asm__ volatile("");
	return n;
}

__attribute__((noinline)) int calls_the_blocker(int (*block)(int), int fd)
{
	int n = block ? block(fd) : block_on_pipe(fd);

	__asm__ volatile("");
	return n;
}

__attribute__((noinline)) static void pipes(int (*block)(int), int n)
{
	uint64_t from, sum = 0;
	int fd[2];
	pid_t pid;

	if (pipe(fd))
		exit(1);
	pid = fork();
	if (!pid) {
		close(fd[0]);			/* it ends when the reader does */
		for (int i = 0; i < n; i++) {
			nap_ms(20);
			if (write(fd[1], "", 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	for (int i = 0; i < n; i++) {
		from = now_ns();
		if (calls_the_blocker(block, fd[0]) != 1)
			exit(1);
		sum += now_ns() - from;
	}
	waitpid(pid, NULL, 0);
	told("ns", sum);
}

/* Functions by the names that compilers give to others: of C++, of Rust old and new, and a pair of pairs of pairs... */
#define MANGLED(name, symbol, inner)				\
	__attribute__((noinline)) int name(int fd) __asm__(symbol);	\
	__attribute__((noinline)) int name(int fd)		\
	{							\
		int n = inner(fd);				\
								\
		__asm__ volatile("");				\
		return n;					\
	}
#define PAIR(n) "S_IS" #n "_S" #n "_E"
MANGLED(mangled_new, "_RNvNtCs1234_7mycrate3pad5reads", block_on_pipe)
MANGLED(mangled_old, "_ZN5tokio7runtime5waits17h05af221e174051e9E", mangled_new)
MANGLED(mangled_cpp, "_ZN4game6Engine5frameEi", mangled_old)
MANGLED(mangled_endless, "_Z7endlessSt4pairI1AS0_E" PAIR(1) PAIR(2) PAIR(3) PAIR(4) PAIR(5) PAIR(6) PAIR(7) PAIR(8) PAIR(9)
	PAIR(A) PAIR(B) PAIR(C) PAIR(D) PAIR(E) PAIR(F) PAIR(G) PAIR(H) PAIR(I) PAIR(J) PAIR(K) PAIR(L) PAIR(M) PAIR(N)
	PAIR(O) PAIR(P) PAIR(Q) PAIR(R) PAIR(S) PAIR(T) PAIR(U) PAIR(V) PAIR(W) PAIR(X) PAIR(Y), mangled_cpp)

/* A pair of pairs... that is searched to its end for what is not in it. */
#define TWICE(n) "S1_IS" #n "_S" #n "_E"
__attribute__((noinline)) static void hostile(void)
	__asm__("_Z1fI1a1bIS0_S0_E" TWICE(2) TWICE(3) TWICE(4) TWICE(5) TWICE(6) TWICE(7) TWICE(8) TWICE(9) TWICE(A)
		TWICE(B) TWICE(C) TWICE(D) TWICE(E) TWICE(F) TWICE(G) TWICE(H) TWICE(I) TWICE(J) TWICE(K) TWICE(L)
		TWICE(M) TWICE(N) TWICE(O) TWICE(P) TWICE(Q) TWICE(R) TWICE(S) TWICE(T) TWICE(U) TWICE(V) TWICE(W)
		TWICE(X) "EDpSY_v");
static void hostile(void)
{
	nap_ms(1500);
	__asm__ volatile("");
}

__attribute__((noinline)) static void library(const char *path)
{
	void *lib = dlopen(path, RTLD_NOW);
	int (*block)(int) = lib ? (int (*)(int))dlsym(lib, "block_in_library") : NULL;

	if (!block)
		exit(1);
	pipes(block, 20);
	__asm__ volatile("");
}

/* push %rbp; mov %rsp,%rbp; xor %eax,%eax (read); syscall; pop %rbp; ret */
static const unsigned char jit_code[] = {
	0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0x0f, 0x05, 0x5d, 0xc3,
};
static long (*jitted)(int, void *, long);

static int block_in_jit(int fd)
{
	char c;

	return jitted(fd, &c, 1);
}

/* Code without a file, as compilers at run time make it, and Wine where a DLL is not aligned. */
static void jit(const char *dll, int n)
{
	char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = *dll ? open(dll, O_RDONLY) : -1;

	if (at == MAP_FAILED || (*dll && mmap(at, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) != at))
		exit(1);
	memcpy(at + 4096 + 256, jit_code, sizeof(jit_code));
	if (mprotect(at + 4096, 4096, PROT_READ | PROT_EXEC))
		exit(1);
	jitted = (void *)(at + 4096 + 256);
	if (!*dll) {
		char path[64];
		FILE *f;

		snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
		f = fopen(path, "w");
		fprintf(f, "%lx %zx made at run time\n", (unsigned long)jitted, sizeof(jit_code));
		fclose(f);
		told("pid", getpid());
	}
	pipes(block_in_jit, n);
}

static uint32_t word;
static volatile int waiter_tid;

static void *waiter(void *arg)
{
	uint64_t from, sum = 0;

	waiter_tid = syscall(SYS_gettid);
	told("tid", waiter_tid);
	for (uint32_t i = 0; i < 200; i++) {
		from = now_ns();
		while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == i)
			syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, i, NULL, NULL, 0);
		sum += now_ns() - from;
	}
	told("ns", sum);
	return arg;
}

/* Does that thread sleep? */
static int sleeping(int tid)
{
	char path[64], text[256] = "", *at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (f && !fgets(text, sizeof(text), f))
		text[0] = 0;
	if (f)
		fclose(f);
	at = strrchr(text, ')');
	return at && at[2] == 'S';
}

static void futex(void)
{
	pthread_t t;

	pthread_create(&t, NULL, waiter, NULL);
	while (!waiter_tid)
		nap_ms(1);
	nap_ms(50);
	for (int i = 0; i < 200; i++) {
		while (!sleeping(waiter_tid))
			nap_ms(1);
		__atomic_fetch_add(&word, 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		nap_ms(1);
	}
	pthread_join(t, NULL);
}

/* getpid as 32-bit programs call it; a kernel without them kills who tries. */
static void calls32(int n)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		long nr = 20;

		for (int i = 0; i < n; i++, nr = 20)
			__asm__ volatile("int $0x80" : "+a"(nr) : : "memory");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (!status)
		told("ia32", n);
}

static void calls(void)
{
#define X(name, a, b, c, n) for (int i = 0; i < n; i++) syscall(SYS_##name, a, b, c); told(#name, n);
	CALLS(X)
#undef X
	calls32(110);
}

static void ten(void)
{
	for (int i = 0; i < 10; i++)
		syscall(SYS_getpriority, 0, 0);
}

static void forks(int n)
{
	for (int i = 0; i < n; i++)
		if (!fork()) {
			ten();
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	told("getpriority", 10 * n);
}

__attribute__((noinline)) void ends_early(void)
{
	nap_ms(5);
	__asm__ volatile("");
}

__attribute__((noinline)) static void execs(char **argv)
{
	int left = argv[2] ? atoi(argv[2]) : 5;
	char text[16];

	if (left < 0) {			/* a child */
		ten();
		ends_early();
		exit(0);
	}
	if (left < 5)
		ten();
	for (int i = 0; i < 2 && left == 1; i++)
		if (!fork()) {
			execl("/proc/self/exe", argv[0], "execs", "-1", NULL);
			_exit(1);
		}
	while (wait(NULL) > 0)
		;
	if (!left) {
		told("getpriority", 70);
		return;
	}
	snprintf(text, sizeof(text), "%d", left - 1);
	fflush(NULL);
	execl("/proc/self/exe", argv[0], "execs", text, NULL);
	exit(1);
}

static uint64_t thread_ns;

static void *thread(void *arg)
{
	uint64_t from = now_ns();

	nap_ms(200);
	__atomic_fetch_add(&thread_ns, now_ns() - from, __ATOMIC_RELAXED);
	return arg;
}

#define STACK (64 * 1024UL)

static void threads(int n)
{
	pthread_t *t = calloc(n, sizeof(*t));
	pthread_attr_t attr;
	char *stacks;

	/* One mapping for all their stacks: it is threads that come in a flood here, not mappings. */
	stacks = mmap(NULL, n * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_init(&attr);
	for (int i = 0; i < n; i++)
		if (pthread_attr_setstack(&attr, stacks + i * STACK, STACK) ||
		    pthread_create(&t[i], &attr, thread, NULL))
			exit(1);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	told("ns", thread_ns);
	told("threads", n + 1);
}

static int rusage(char **argv)
{
	struct rusage r;
	pid_t pid = fork();
	int status;

	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	getrusage(RUSAGE_CHILDREN, &r);
	told("cpu_ns", (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000ULL +
		       (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000ULL);
	told("voluntary", r.ru_nvcsw);
	told("involuntary", r.ru_nivcsw);
	told("minor", r.ru_minflt);
	return status != 0;
}

static void *started(void *arg)
{
	uint64_t *at = arg;
	struct timespec ts;

	*at = now_ns() - *at;
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	while (ts.tv_nsec < 1000000);
	return arg;
}

/* The first thread is a real-time one, so that it waits for none of them while it makes them. */
static void starts(void)
{
	struct sched_param prio = { .sched_priority = 1 };
	uint64_t at[20], sum = 0;
	pthread_t t[20];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set) ||
	    sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &prio))
		exit(1);
	for (int i = 0; i < 20; i++) {
		at[i] = now_ns();
		if (pthread_create(&t[i], NULL, started, &at[i]))
			exit(1);
	}
	for (int i = 0; i < 20; i++) {
		pthread_join(t[i], NULL);
		sum += at[i];
	}
	told("ns", sum);
}

static int turn;

static void *player(void *arg)
{
	int me = arg != NULL;

	for (int i = 0; i < 20000; i++) {
		while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != me)
			syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
		__atomic_store_n(&turn, !me, __ATOMIC_RELEASE);
		syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	return arg;
}

static void pingpong(void)
{
	pthread_t t;

	pthread_create(&t, NULL, player, &turn);
	player(NULL);
	pthread_join(t, NULL);
}

/* As a new thread does whose creator keeps something else in the register. */
__attribute__((noinline)) void sleeps_astray(void **frame)
{
	struct timespec ts = { 0, 100000000 };
	long nr = SYS_nanosleep;

	__asm__ volatile("mov %%rbp, %%rbx; mov %3, %%rbp; syscall; mov %%rbx, %%rbp"
			 : "+a"(nr) : "D"(&ts), "S"(0L), "r"(frame) : "rbx", "rcx", "r11", "memory");
}

static void *outside[2];

static void frames(void)
{
	void *on_stack[2] = { on_stack, &outside };

	outside[0] = outside;
	outside[1] = &outside;
	sleeps_astray(on_stack);
	sleeps_astray(outside);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	const char *arg = argc > 2 ? argv[2] : "";

#define MODE(name, call) if (!strcmp(mode, #name)) { call; return 0; }
	MODE(sleeps, sleeps())
	MODE(pipe, pipes(NULL, *arg ? atoi(arg) : 20))
	MODE(mangled, pipes(mangled_endless, 20))
	MODE(hostile, hostile(); sleeps())
	MODE(library, library(arg))
	MODE(jit, jit(arg, argc > 3 ? atoi(argv[3]) : 20))
	MODE(futex, futex())
	MODE(calls, calls())
	MODE(forks, forks(*arg ? atoi(arg) : 50))
	MODE(execs, execs(argv))
	MODE(threads, threads(atoi(arg)))
	MODE(rusage, return rusage(argv + 2))
	MODE(starts, starts())
	MODE(pingpong, pingpong())
	MODE(frames, frames())
	MODE(spin, for (;;) __asm__ volatile(""))
	return 64;
}
#endif
