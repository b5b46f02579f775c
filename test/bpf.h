/*
 * bpf.h: the system call bpf() and what it says of a loaded program; for the programs beside it.
 * The kernel counts runs and time while somebody holds what stats_on() returns.
 */
#include <linux/bpf.h>
#include <sys/syscall.h>
#include "helper.h"

struct count { uint64_t runs, ns; };

static inline int bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static inline int stats_on(void)
{
	union bpf_attr attr = { .enable_stats.type = BPF_STATS_RUN_TIME };

	return bpf(BPF_ENABLE_STATS, &attr);
}

static inline int fd_by_id(int cmd, uint32_t id)
{
	union bpf_attr attr = { .prog_id = id };	/* every kind of id lies there */

	return bpf(cmd, &attr);
}

static inline int info(int fd, void *to, uint32_t size)
{
	union bpf_attr attr = { .info = { .bpf_fd = fd, .info_len = size, .info = (uintptr_t)to } };

	memset(to, 0, size);
	return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
}

static inline struct count count(int fd)
{
	struct bpf_prog_info prog;

	if (fd < 0 || info(fd, &prog, sizeof(prog)))
		return (struct count){ 0 };
	return (struct count){ prog.run_cnt, prog.run_time_ns };
}

/* The program behind that descriptor of a process (a link's: its program), as one of our own; -1: there is none. */
static inline int held_prog(int pid, int fd, uint32_t *id)
{
	char path[64], line[64];
	FILE *f;

	*id = 0;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "prog_id: %u", id);
	if (f)
		fclose(f);
	return *id ? fd_by_id(BPF_PROG_GET_FD_BY_ID, *id) : -1;
}
