/*
 * longest FILE COMMAND...: runs it and writes how long any task of the machine had to wait
 * for a CPU meanwhile, at most: {"v":1,"wait_ms":N,"task":"NAME"}. Exits as COMMAND does.
 *
 * The kernel keeps each task's longest wait since its birth. Two small BPF programs read it:
 * one of the tasks that die, at their exit, the other, before and after, of those that live.
 * So nothing polls and nothing is missed, however short-lived, with two exceptions: of a
 * task that has waited longer before COMMAND only a longer wait is seen, and a wait during
 * which the task was moved to another CPU's queue counts in two parts.
 * Kernels without that field (before 6.15) have no FILE written.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btf.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "bpf.h"

#define MAX_TASKS	16384

/* What both programs report of a task; the map has one per CPU. */
struct wait { uint64_t ns; uint32_t pid, pad; char comm[16]; };

/* Offsets in this kernel's task_struct */
static uint32_t off_wait, off_pid, off_comm;

/* ---- BTF --------------------------------------------------------------------------- */

static struct btf_header *btf;

static const char *btf_name(uint32_t off)
{
	return (char *)btf + btf->hdr_len + btf->str_off + off;
}

static struct btf_type *btf_next(struct btf_type *t)
{
	static const int words[32] = {	/* of 4 bytes behind the type itself, per member, at least */
		[BTF_KIND_STRUCT] = 3, [BTF_KIND_UNION] = 3, [BTF_KIND_ENUM] = 2,
		[BTF_KIND_FUNC_PROTO] = 2, [BTF_KIND_DATASEC] = 3, [BTF_KIND_ENUM64] = 3,
	};
	static const int fixed[32] = {
		[BTF_KIND_INT] = 1, [BTF_KIND_ARRAY] = 3, [BTF_KIND_VAR] = 1,
		[BTF_KIND_DECL_TAG] = 1,
	};
	int kind = BTF_INFO_KIND(t->info);

	return (void *)((uint32_t *)(t + 1) + fixed[kind] + words[kind] * BTF_INFO_VLEN(t->info));
}

/* The number of that type; 0: this kernel has none */
static uint32_t btf_find(int kind, const char *name, struct btf_type **type)
{
	struct btf_type *t = (void *)((char *)btf + btf->hdr_len + btf->type_off);
	struct btf_type *end = (void *)((char *)t + btf->type_len);

	for (uint32_t id = 1; t < end; id++, t = btf_next(t)) {
		if ((int)BTF_INFO_KIND(t->info) != kind || strcmp(btf_name(t->name_off), name))
			continue;
		*type = t;
		return id;
	}
	return 0;
}

/* Bytes from a structure's begin to its member; -1: it has none of that name */
static int btf_offset(const char *structure, const char *name)
{
	struct btf_type *t;
	struct btf_member *m;

	if (!btf_find(BTF_KIND_STRUCT, structure, &t))
		return -1;
	m = (void *)(t + 1);
	for (unsigned int i = 0; i < BTF_INFO_VLEN(t->info); i++)
		if (!strcmp(btf_name(m[i].name_off), name))
			return BTF_MEMBER_BIT_OFFSET(m[i].offset) / 8;
	return -1;
}

static bool btf_read(void)
{
	int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC), info_at, max_at;
	size_t size = lseek(fd, 0, SEEK_END), n = 0;

	btf = malloc(size);
	lseek(fd, 0, SEEK_SET);
	while (btf && n < size) {
		ssize_t got = read(fd, (char *)btf + n, size - n);

		if (got <= 0)
			return false;
		n += got;
	}
	info_at = btf_offset("task_struct", "sched_info");
	max_at = btf_offset("sched_info", "max_run_delay");
	off_wait = info_at + max_at;
	off_pid = btf_offset("task_struct", "pid");
	off_comm = btf_offset("task_struct", "comm");
	return info_at >= 0 && max_at >= 0;
}

/* ---- programs ---------------------------------------------------------------------- */

#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })
#define MOV(d, s)	INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i)	INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD(d, i)	INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define LOAD(d, s, o)	INSN(BPF_LDX | BPF_DW | BPF_MEM, d, s, o, 0)
#define STORE(d, o, s)	INSN(BPF_STX | BPF_DW | BPF_MEM, d, s, o, 0)
#define ZERO(d, o)	INSN(BPF_ST | BPF_DW | BPF_MEM, d, 0, o, 0)
#define CALL(f)		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_##f)
#define EXIT		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* to the stack at `at`, from the task in r7 */
#define TASK(at, size, off) MOV(1, 10), ADD(1, at), SET(2, size), MOV(3, 7), ADD(3, off), CALL(probe_read_kernel)
#define STACK		(-(int)sizeof(struct wait))
/* A struct wait on the stack */
#define TASK_ALL	ZERO(10, STACK + 8), TASK(STACK, 8, off_wait), TASK(STACK + 8, 4, off_pid), \
			TASK(STACK + 16, 16, off_comm)

static int load(union bpf_attr *attr, const struct bpf_insn *insns, size_t n)
{
	static char log[1 << 16];
	int fd;

	attr->insns = (uintptr_t)insns;
	attr->insn_cnt = n;
	attr->license = (uintptr_t)"GPL";
	attr->log_buf = (uintptr_t)log;
	attr->log_size = sizeof(log);
	attr->log_level = 1;
	fd = bpf(BPF_PROG_LOAD, attr);
	if (fd < 0)
		fprintf(stderr, "longest: %s: %s\n", strerror(errno), log);
	return fd;
}

/* At each exit: the map keeps the longest. */
static int watch_exits(int map)
{
	const struct bpf_insn insns[] = {
		LOAD(7, 1, 0), TASK_ALL,
		ZERO(10, STACK - 8), MOV(2, 10), ADD(2, STACK - 8),
		INSN(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map), INSN(0, 0, 0, 0, 0),
		CALL(map_lookup_elem), INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 10, 0),
		LOAD(1, 0, 0), LOAD(2, 10, STACK), INSN(BPF_JMP | BPF_JGE | BPF_X, 1, 2, 7, 0),
		STORE(0, 0, 2), LOAD(1, 10, STACK + 8), STORE(0, 8, 1), LOAD(1, 10, STACK + 16),
		STORE(0, 16, 1), LOAD(1, 10, STACK + 24), STORE(0, 24, 1),
		SET(0, 0), EXIT,
	};
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT };
	int fd = load(&attr, insns, sizeof(insns) / sizeof(insns[0]));

	attr = (union bpf_attr){ .raw_tracepoint = { .name = (uintptr_t)"sched_process_exit", .prog_fd = fd } };
	return bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
}

/* A link; what is read from an iterator made of it is a struct wait per task that lives. */
static int list_link(void)
{
	const struct bpf_insn insns[] = {
		MOV(6, 1), LOAD(7, 1, 8), INSN(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 25, 0),
		TASK_ALL,
		LOAD(1, 6, 0), LOAD(1, 1, 0), MOV(2, 10), ADD(2, STACK), SET(3, -STACK), CALL(seq_write),
		SET(0, 0), EXIT,
	};
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_TRACING, .expected_attach_type = BPF_TRACE_ITER };
	struct btf_type *t;
	int fd;

	attr.attach_btf_id = btf_find(BTF_KIND_FUNC, "bpf_iter_task", &t);
	fd = load(&attr, insns, sizeof(insns) / sizeof(insns[0]));
	attr = (union bpf_attr){ .link_create = { .prog_fd = fd, .attach_type = BPF_TRACE_ITER } };
	return bpf(BPF_LINK_CREATE, &attr);
}

static size_t list(int link, struct wait *tasks)
{
	union bpf_attr attr = { .iter_create.link_fd = link };
	int fd = bpf(BPF_ITER_CREATE, &attr);
	size_t size = 0;
	ssize_t n;

	while ((n = read(fd, (char *)tasks + size, MAX_TASKS * sizeof(*tasks) - size)) > 0)
		size += n;
	close(fd);
	return size / sizeof(*tasks);
}

/* ---- the run ----------------------------------------------------------------------- */

static struct wait before[MAX_TASKS], after[MAX_TASKS], died[1024];

static uint64_t waited_before(uint32_t pid, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (before[i].pid == pid)
			return before[i].ns;
	return 0;
}

static struct wait longest_of(int map, int link, size_t nr_before)
{
	union bpf_attr attr = { .map_fd = map, .key = (uintptr_t)&(uint32_t){ 0 }, .value = (uintptr_t)died };
	size_t n = list(link, after);
	struct wait longest = { .comm = "none" };

	if (!bpf(BPF_MAP_LOOKUP_ELEM, &attr))
		for (size_t i = 0; i < sizeof(died) / sizeof(died[0]); i++)
			if (died[i].ns > longest.ns)
				longest = died[i];
	for (size_t i = 0; i < n; i++)
		if (after[i].ns > longest.ns && after[i].ns > waited_before(after[i].pid, nr_before))
			longest = after[i];
	return longest;
}

static int run(char **argv)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_PERCPU_ARRAY, .key_size = 4,
				.value_size = sizeof(struct wait), .max_entries = 1 };
	int map, exits, link, rc;
	struct wait longest;
	size_t nr_before;
	FILE *f;

	if (argc < 3)
		return 64;
	if (!btf_read())
		return run(argv + 2);
	map = bpf(BPF_MAP_CREATE, &attr);
	exits = watch_exits(map);
	link = list_link();
	if (map < 0 || exits < 0 || link < 0) {
		fprintf(stderr, "longest: cannot watch: %s\n", strerror(errno));
		return 70;
	}
	nr_before = list(link, before);
	rc = run(argv + 2);
	longest = longest_of(map, link, nr_before);
	f = fopen(argv[1], "w");
	if (!f || fprintf(f, "{\"v\":1,\"wait_ms\":%.6f,\"task\":\"%.16s\"}\n", longest.ns / 1e6,
			  longest.comm) < 0 || fclose(f)) {
		perror(argv[1]);
		return 74;
	}
	return rc;
}
