/*
 * merge: how the process database merges what was observed, without a kernel: gamer.c itself,
 * and here what BPF would be told; and which failures are in a row. Ends with the first thing that does not hold.
 */
#include "gamer.c"

#define EXPECT(holds, ...) do { if (!(holds)) { printf(__VA_ARGS__); puts(""); exit(1); } } while (0)

/* The kernel's map of predictions, which has no more room than it has there. */
static struct {
	bool there;
	struct learn_key key;
	struct prediction to;
} told[LEARN_PROGRAMS];

static u32 told_at(const struct learn_key *key)
{
	u32 i = 0;

	while (i < LEARN_PROGRAMS && (!told[i].there || memcmp(&told[i].key, key, sizeof(*key))))
		i++;
	return i;
}

int bpf_map__fd(const struct bpf_map *map)
{
	(void)map;
	return -1;
}

int bpf_map_delete_elem(int fd, const void *key)
{
	u32 i = told_at(key);

	(void)fd;
	if (i < LEARN_PROGRAMS)
		told[i].there = false;
	return 0;
}

int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
	u32 i = told_at(key);

	(void)fd;
	(void)flags;
	if (i == LEARN_PROGRAMS)
		for (i = 0; i < LEARN_PROGRAMS && told[i].there; i++)
			;
	EXPECT(i < LEARN_PROGRAMS, "more is predicted than the kernel has room for");
	told[i].there = true;
	memcpy(&told[i].key, key, sizeof(told[i].key));
	memcpy(&told[i].to, value, sizeof(told[i].to));
	return 0;
}

/* What BPF is told of a program after one more sum of it; TIER_NR: nothing. */
static struct prediction after(struct learn_key key, struct learn_sum sum)
{
	db_foretell(db_merge(&key, &sum));
	return told_at(&key) < LEARN_PROGRAMS ? told[told_at(&key)].to :
	       (struct prediction){ .tier = TIER_NR };
}

static const struct learn_sum long_ones = {
	.count = 10, .burst_ns = 20000000, .dev_ns = 1000000, .votes = { [TIER_BATCH] = 10 },
};
static const struct learn_sum short_ones = {
	.count = 4, .burst_ns = 100000, .dev_ns = 10000, .votes = { [TIER_INTERACTIVE] = 4 },
};

/* Before there is a kernel to tell: the best of many rounds, on a machine with other work. */
static void check_time(void)
{
	struct learn_sum sum = { .count = DB_STEPS, .burst_ns = 1000, .votes = { 1 } };
	u64 least = ~0ULL, start;

	for (u32 round = 0; round < 50; round++) {
		start = now_ns();
		for (u32 i = 0; i < LEARN_PROGRAMS; i++) {
			struct learn_key key = { "program", i };

			db_merge(&key, &sum);
		}
		least = round ? MIN(least, now_ns() - start) : least;
	}
	printf("%u us for %u programs\n", (u32)(least / 1000), db.known.count);
	EXPECT(least <= NSEC_PER_MSEC && db.known.count == LEARN_PROGRAMS, "that is too long");
}

/* A program that changes is not foretold what it was, then foretold what it is. */
static void check_changed(void)
{
	struct learn_key key = { "cc1", 7 };
	u32 unsure = 0, i;
	struct prediction to = after(key, long_ones);

	EXPECT(to.tier == TIER_BATCH && to.burst_ns == long_ones.burst_ns, "10 long ones: %u", to.tier);
	for (i = 0; i < 100 && to.tier != TIER_INTERACTIVE; i++) {
		to = after(key, short_ones);
		EXPECT(to.tier != TIER_BATCH || !unsure, "it is foretold again");
		unsure += to.tier == TIER_NR;
	}
	EXPECT(unsure && i < 100, "%u sums between the tiers, %u until the new one", unsure, i);
	printf("after %u short ones nobody is sure, after %u they are what it is\n",
	       (i - unsure) * short_ones.count, i * short_ones.count);
}

static void check_role(void)
{
	struct learn_key key = { "submit", 7 };
	struct learn_sum sum = short_ones;

	sum.role = ROLE_GPU;
	sum.role_votes = sum.count;
	EXPECT(after(key, sum).role == ROLE_GPU, "a role that it always had is not foretold");
	after(key, short_ones);
	EXPECT(after(key, short_ones).role == ROLE_NONE, "it has it in a third of its runs");
}

/* Who makes room is not foretold any more. */
static void check_room(void)
{
	struct learn_key first = { "program", 100 }, last = { "last", 1 };
	u32 i;

	memset(&db.known, 0, sizeof(db.known));
	memset(told, 0, sizeof(told));
	for (i = 0; i < LEARN_PROGRAMS; i++)
		after((struct learn_key){ "program", i }, long_ones);
	db_find(&db.known, &first)->seen_s -= 10;
	EXPECT(after(last, long_ones).tier == TIER_BATCH, "the 513th is not foretold");
	EXPECT(told_at(&first) == LEARN_PROGRAMS && !db_find(&db.known, &first),
	       "who was seen least lately stays");
}

/* Failures are in a row where less than an hour of work lies between two. */
static void check_failures(void)
{
	static const struct { u64 second; u32 row; } failures[] = {
		{ 100, 1 }, { 101, 2 }, { 3700, 3 }, { 7300, 1 }, { 7300, 2 }, { 99999, 1 }, { 999999, 1 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(failures); i++)
		EXPECT(run_failures(failures[i].second * NSEC_PER_SEC) == failures[i].row,
		       "failure %u is not number %u in a row", i, failures[i].row);
}

int main(void)
{
	static struct gamer_bpf__bss bss;
	static struct gamer_bpf skel = { .bss = &bss };

	check_failures();
	check_time();
	st.skel = &skel;
	check_room();
	check_changed();
	check_role();
	return 0;
}
