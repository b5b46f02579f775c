/*
 * fuzz: gamer.c itself, whose readers of bytes that others write are fed by libFuzzer. A reader that
 * takes what it must not, or gives what is not there, aborts.
 */
#include "gamer.c"

/* Any bytes are no database, or one that is the same again. */
static void fuzz_db(const u8 *data, size_t size)
{
	static struct db_table again;
	const struct learn_sum sum = { .count = 3, .votes = { 1, 1, 1 }, .burst_ns = ~0ULL };
	struct learn_key key = { "fuzz", 1 };
	u8 *copy = malloc(size + 1);	/* no longer than need be, for the address sanitizer */
	struct prediction to;
	u32 crc, i;

	memcpy(copy, data, size);
	if (size >= DB_HEADER3 && copy[4] == 3) {	/* no fuzzer guesses a checksum */
		crc = db_file_crc(copy, size);
		memcpy(copy + DB_HEADER, &crc, sizeof(crc));
	}
	if (db_decode(&db.known, copy, size) == DB_OK) {
		if (db_decode(&again, db.file, db_encode(db.file, &db.known, 3)) != DB_OK ||
		    again.count != db.known.count ||
		    memcmp(again.profile, db.known.profile, again.count * sizeof(*again.profile)) ||
		    db_decode(&again, db.file, db_encode(db.file, &db.known, 2)) != DB_OK)
			abort();
		for (i = 0; i < again.count; i++)
			if (!db_predict(&again.profile[i], &to) || to.tier >= TIER_NR || to.confidence > 100)
				abort();
		db_age(&db.known);
		for (; key.exe < 4; key.exe++)
			db_merge(&key, &sum);
		if (db_decode(&again, db.file, db_encode(db.file, &db.known, 3)) != DB_OK)
			abort();
	}
	free(copy);
}

/* Symbols in order, and each found by its address. */
static void fuzz_symbols(struct prof_symbols *symbols)
{
	const struct prof_symbol *s;
	u32 i;

	for (i = 0; i < symbols->n; i++) {
		s = prof_symbol_at(symbols, symbols->list[i].addr);
		if ((i && symbols->list[i].addr < symbols->list[i - 1].addr) || !s ||
		    s->addr != symbols->list[i].addr)
			abort();
	}
	free(symbols->list);
	*symbols = (struct prof_symbols){ 0 };
	prof.nr_symbols = 0;
}

/* Any bytes are no ELF file, or one whose functions have names that end. */
static void fuzz_elf(const u8 *data, size_t size)
{
	static int fd = -1;
	struct prof_module mod = { 0 };
	struct prof_code code = { .mod = &mod };
	u32 i;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	elf_function(fd, "NtSetInformationThread");
	mod.fd = dup(fd);
	prof_module_load(&mod);
	if (mod.symbols.n > size)
		abort();
	for (i = 0; i < mod.symbols.n; i++)
		if (strlen(mod.symbols.list[i].name) > size)
			abort();
	for (; code.offset < 256; code.offset++)
		prof_called(&code, &code);
	fuzz_symbols(&mod.symbols);
	if (mod.data)
		munmap((void *)mod.data, mod.size + sysconf(_SC_PAGESIZE));
}

/* Any bytes are a JIT compiler's list, or the kernel's, of as many functions as it has lines at most. */
static void fuzz_perfmap(const u8 *data, size_t size)
{
	static struct prof_symbols symbols;
	char *copy = malloc(size + 1);
	u32 i;

	memcpy(copy, data, size);
	prof_list_parse(&symbols, copy, size, size & 1);
	for (i = 0; i < symbols.n; i++)
		if (symbols.list[i].name <= copy || symbols.list[i].name > copy + size ||
		    strlen(symbols.list[i].name) > size)
			abort();
	fuzz_symbols(&symbols);
	free(copy);
}

/*
 * What a client sends, in packets of as many bytes as the first says: its lines come out as they
 * are, up to one that has no room, and ask for something that there is.
 */
static void fuzz_requests(const u8 *data, size_t size)
{
	static struct client c;
	const u8 *end = data + size, *at = data + 1, *line = at;	/* sent, and taken */
	char text[CLIENT_LINE];
	struct request r;
	size_t n;

	for (c.len = 0; size && c.len < sizeof(c.line) && at < end; at = line + c.len) {
		n = MIN(MIN(data[0] + 1UL, (size_t)(end - at)), sizeof(c.line) - c.len);
		memcpy(c.line + c.len, at, n);
		c.len += n;
		while (request_take(&c, text)) {
			n = (const u8 *)memchr(line, '\n', end - line) - line;
			r = request_parse(text);
			if (memcmp(text, line, n) || text[n] || r.what > ASK_TOP ||
			    r.types >> EVENT_NR)
				abort();
			line += n + 1;
		}
	}
	if (size && memcmp(c.line, line, c.len))
		abort();
}

/* Any bytes are a name: text of it is clean, and so is JSON, which ends where it should. */
static void fuzz_text(const u8 *data, size_t size)
{
	static struct out o;
	char name[64], text[128], *s = text;
	u32 c;

	snprintf(name, sizeof(name), "%.*s", (int)size, (const char *)data);
	text_f(text, sizeof(text), "%-9s|%.5s", name, name);
	for (; *s; s += utf8_next(s, SIZE_MAX, &c))
		if (utf8_next(s, SIZE_MAX, &c) && text_steers(c))
			abort();
	out_keep(&o);
	json_text(&(struct json){ .o = &o }, name);
	o.buf[o.len] = 0;
	for (s = o.buf + 1; *s != '"'; s += utf8_next(s, SIZE_MAX, &c)) {
		s += *s == '\\';
		if (utf8_next(s, SIZE_MAX, &c) && text_steers(c))
			abort();
	}
	if (s != o.buf + o.len - 1)
		abort();
}

/* The readers. `test.sh fuzz` finds the rows here, and names the one that is fed in $FUZZ_TARGET. */
static const struct { const char *name; void (*fn)(const u8 *data, size_t size); } fuzzed[] = {
	{ "db", fuzz_db },
	{ "text", fuzz_text },
	{ "requests", fuzz_requests },
	{ "elf", fuzz_elf },
	{ "perfmap", fuzz_perfmap },
};

/* What the fuzzer calls in place of main(). */
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const char *name = getenv("FUZZ_TARGET");
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fuzzed); i++)
		if (name && !strcmp(name, fuzzed[i].name))
			fuzzed[i].fn(data, size);
	return 0;
}
