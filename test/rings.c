/*
 * rings: what it is worth to give each CPU a ring of its own, instead of one that all share.
 *
 * One or two threads, each on its CPU, make EVENTS records of 24 bytes as fast as they can: a
 * BPF program puts them into the one ring or into the CPU's, at a system call that nobody else
 * makes. The rings are emptied in between, so that nobody reads while it is measured. Then the
 * other side: a look into one empty ring, and into 16. All in turn, ROUNDS times; medians.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include "bpf.h"

#define EVENTS		1000		/* fit into a ring */
#define ROUNDS		300
#define RING_BYTES	(64 * 1024)
#define SHARDS		16

enum { NONE, ONE, OWN, HOW };
static const char *const how_names[] = { "no program", "one ring", "a ring per CPU" };
static int progs[HOW];

/* Both sides' positions of a ring, each on a page of its own */
struct ring {
	int fd;
	_Atomic uint64_t *consumer;
	const _Atomic uint64_t *producer;
};
static struct ring rings[SHARDS];

static void ring_make(struct ring *r)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_RINGBUF, .max_entries = RING_BYTES };
	size_t page = sysconf(_SC_PAGESIZE);

	r->fd = bpf(BPF_MAP_CREATE, &attr);
	if (r->fd < 0)
		die("ring");
	r->consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	r->producer = mmap(NULL, page, PROT_READ, MAP_SHARED, r->fd, page);
	if (r->consumer == MAP_FAILED || r->producer == MAP_FAILED)
		die("mmap of a ring");
}

#define INSN(op, ...)	{ .code = (op), __VA_ARGS__ }
#define MOV(reg, value)	INSN(BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (reg), .imm = (value))
#define CALL(helper)	INSN(BPF_JMP | BPF_CALL, .imm = (helper))
#define RING(n)		INSN(BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, \
			     .imm = rings[n].fd), INSN(0)
#define ZERO(at)	INSN(BPF_ST | BPF_MEM | BPF_DW, .dst_reg = 10, .off = (at))

/* At getppid(): a record into ring (cpu & mask) */
static int prog_make(int mask)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = 2, .src_reg = 1, .off = 8),
		INSN(BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .imm = SYS_getppid, .off = 15),
		ZERO(-8), ZERO(-16), ZERO(-24),
		CALL(BPF_FUNC_get_smp_processor_id),
		INSN(BPF_ALU64 | BPF_AND | BPF_K, .dst_reg = 0, .imm = mask),
		RING(0),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 2),
		RING(1),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -24),
		MOV(3, 24), MOV(4, BPF_RB_NO_WAKEUP),
		CALL(BPF_FUNC_ringbuf_output),
		MOV(0, 0),
		INSN(BPF_JMP | BPF_EXIT),
	};
	static char log[65536];
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT, .insns = (uintptr_t)insns,
		.insn_cnt = sizeof(insns) / sizeof(*insns), .license = (uintptr_t)"GPL",
		.log_buf = (uintptr_t)log, .log_size = sizeof(log), .log_level = 1,
	};
	int fd = bpf(BPF_PROG_LOAD, &attr);

	if (fd < 0) {
		fputs(log, stderr);
		die("program");
	}
	return fd;
}

static int attach(int prog)
{
	union bpf_attr attr = { .raw_tracepoint = { .name = (uintptr_t)"sys_enter", .prog_fd = prog } };
	int fd = bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);

	if (fd < 0)
		die("raw tracepoint");
	return fd;
}

static _Atomic int ready;
static int producers;

static void *produce(void *arg)
{
	long cpu = (long)arg;
	cpu_set_t set;
	uint64_t from;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
	ready++;
	while (ready < producers)
		;
	from = now_ns();
	for (int i = 0; i < EVENTS; i++)
		syscall(SYS_getppid);
	return (void *)(now_ns() - from);
}

/* ns per call of the slower one */
static double round_ns(void)
{
	pthread_t t[2];
	uint64_t slowest = 0;
	void *ns;

	ready = 0;
	for (long i = 0; i < producers; i++)
		if (pthread_create(&t[i], NULL, produce, (void *)i))
			die("thread");
	for (int i = 0; i < producers; i++) {
		pthread_join(t[i], &ns);
		if ((uint64_t)ns > slowest)
			slowest = (uint64_t)ns;
	}
	return (double)slowest / EVENTS;
}

/* Takes what is there; returns the number of records: 8 bytes of head and 24 each */
static uint64_t rings_empty(int n)
{
	uint64_t bytes = 0, at;

	for (int i = 0; i < n; i++) {
		at = *rings[i].producer;
		bytes += at - *rings[i].consumer;
		*rings[i].consumer = at;
	}
	return bytes / 32;
}

static int cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), cmp);
	return v[ROUNDS / 2];
}

/* Again where records are not just ours: somebody else asked for his parent in between. */
static double round_of(int how)
{
	uint64_t want = how == NONE ? 0 : EVENTS * producers, made;

	for (int tries = 0; tries < 100; tries++) {
		int link = how == NONE ? -1 : attach(progs[how]);
		double ns = round_ns();

		if (link >= 0)
			close(link);
		made = rings_empty(2);
		if (made == want)
			return ns;
	}
	fprintf(stderr, "rings: %s: %llu records, not %llu\n", how_names[how],
		(unsigned long long)made, (unsigned long long)want);
	exit(1);
}

static void send(void)
{
	static double ns[HOW][ROUNDS];
	double none;

	for (int round = 0; round < ROUNDS; round++)
		for (int how = 0; how < HOW; how++)
			ns[how][round] = round_of(how);
	none = median(ns[NONE]);
	printf("rings, ns an event, %d CPU%s at once:", producers, producers > 1 ? "s" : "");
	for (int how = ONE; how < HOW; how++)
		printf(" %.0f into %s%s", median(ns[how]) - none, how_names[how], how < HOW - 1 ? "," : "\n");
}

static void look(void)
{
	static double ns[2][ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		for (int many = 0; many < 2; many++) {
			uint64_t from = now_ns();

			for (int i = 0; i < EVENTS; i++)
				rings_empty(many ? SHARDS : 1);
			ns[many][round] = (double)(now_ns() - from) / EVENTS;
		}
	}
	printf("rings, ns a look: %.0f into one, %.0f into %d\n", median(ns[0]), median(ns[1]), SHARDS);
}

int main(void)
{
	for (int i = 0; i < SHARDS; i++)
		ring_make(&rings[i]);
	progs[ONE] = prog_make(0);
	progs[OWN] = prog_make(1);
	for (producers = 1; producers <= 2; producers++)
		send();
	look();
	return 0;
}
