/*
 * longest: how long each task of the machine had to wait for a CPU, at most, since its birth, as the kernel (6.15 and
 * later) keeps it: of tasks that live, when `waits` is read, and of those that died since it was loaded. So nothing
 * polls and nothing is missed, however short-lived, but for a wait during which the task was moved to another CPU's
 * queue, which counts in two parts. See guest.sh, load_soak.
 */
#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))
#define CPUS 64

typedef unsigned long long u64;

/* As far as they are used here: libbpf finds members by their names. */
struct sched_info { u64 max_run_delay; } CORE;
struct task_struct { struct sched_info sched_info; int pid; char comm[16]; } CORE;
struct bpf_iter_meta { void *seq; } CORE;
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } CORE;

static unsigned int (*get_cpu)(void) = (void *)8;
static long (*seq_printf)(void *seq, const char *fmt, unsigned int size, const void *args, unsigned int len) = (void *)126;

static struct { u64 ns; char comm[16]; } died[CPUS];	/* the longest on each CPU */

SEC("tp_btf/sched_process_exit") int dies(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	unsigned int cpu = get_cpu() % CPUS;

	if (task->sched_info.max_run_delay > died[cpu].ns) {
		died[cpu].ns = task->sched_info.max_run_delay;
		__builtin_memcpy(died[cpu].comm, task->comm, sizeof(task->comm));
	}
	return 0;
}

/* A line for each task: ns, pid (0: it died), name */
SEC("iter/task") int waits(struct bpf_iter__task *ctx)
{
	static const char line[] = "%llu %llu %s\n";
	struct task_struct *task = ctx->task;
	void *seq = ctx->meta->seq;
	u64 args[3];

	if (task) {
		args[0] = task->sched_info.max_run_delay;
		args[1] = task->pid;
		args[2] = (u64)task->comm;
		seq_printf(seq, line, sizeof(line), args, sizeof(args));
	}
	for (int cpu = 0; !task && cpu < CPUS; cpu++) {
		args[0] = died[cpu].ns;
		args[1] = 0;
		args[2] = (u64)died[cpu].comm;
		seq_printf(seq, line, sizeof(line), args, sizeof(args));
	}
	return 0;
}

SEC("license") char _license[] = "GPL";
