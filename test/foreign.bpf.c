/*
 * foreign: the smallest scheduler there is, for gamer to meet (guest.sh, fair_foreign).
 * Without callbacks the kernel runs whoever waited longest.
 */
#define SEC(name) __attribute__((section(name), used))

/* As far as it is used here: libbpf finds members by their names. */
struct sched_ext_ops { char name[128]; };

SEC(".struct_ops.link") struct sched_ext_ops foreign = { .name = "foreign" };
SEC("license") char _license[] = "GPL";
